//! The programs that lead the host's own calls: on the root of the cgroup2 tree, where every process is below.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{CgroupAttachMode, CgroupSockAddr, links::FdLink},
};
use datapath_common::names::programs::HOST;

use super::{
    link::{self, Link, Place},
    pins,
};

/// What the pins' names end with, where those of classifiers have the interface's index.
const SUFFIX: &str = "cgroup";
/// The kernel's word for such links.
const KIND: &str = "cgroup";

/// The program of a pin of ours.
#[must_use]
pub fn parse_pin(name: &str) -> Option<&str> {
    let (program, suffix) = name.rsplit_once('-')?;
    (suffix == SUFFIX && HOST.contains(&program)).then_some(program)
}

/// Where cgroup2 is mounted, or `None` where it is not.
#[must_use]
pub fn root() -> Option<PathBuf> {
    parse_mounts(&fs::read_to_string("/proc/self/mounts").ok()?)
}

fn parse_mounts(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        // A mount point with blanks has them as \040 (proc(5)).
        (kind == "cgroup2").then(|| PathBuf::from(place.replace("\\040", " ")))
    })
}

/// Puts this object's programs on the root cgroup, in the place of those that a former service left there, and
/// again where somebody took them off. Says how many it had to put there.
///
/// The new link comes before the old one goes. Where both see a call the second finds nothing to do: an
/// address that was led already is the endpoint's, and no port of the host's.
///
/// # Errors
/// When cgroup2 is not mounted, or the kernel refuses. What is none of ours is neither used nor removed.
pub fn reconcile(ebpf: &mut Ebpf, pin_dir: &Path) -> Result<usize> {
    let root = root().context(
        "cgroup2 is not mounted: processes of this host do not reach published ports on its own addresses; \
         mount it (`mount -t cgroup2 none /sys/fs/cgroup`) and start the service anew",
    )?;
    let dir = pins::links(pin_dir);
    let mut placed = 0;
    for name in HOST {
        let at = || format!("{name} on {}", root.display());
        let own = program(ebpf, name)?.info()?.id();
        let pin = dir.join(format!("{name}-{SUFFIX}"));
        let there = fs::symlink_metadata(&pin).is_ok();
        let found = there.then(|| examine(&pin));
        match found.transpose()? {
            Some(Link::Attached { program }) if program == own => continue,
            // That it is one of ours was asked at the start, while it could be (`adopt`).
            Some(Link::Attached { .. } | Link::Dead) | None => {}
        }
        let cgroup = File::open(&root).with_context(at)?;
        replace(ebpf, &cgroup, name, &dir).with_context(at)?;
        placed += 1;
    }
    Ok(placed)
}

/// Looks at what is pinned under the name of such a program.
///
/// # Errors
/// When it is none of ours.
pub fn examine(pin: &Path) -> Result<Link> {
    link::examine(pin, KIND, Place::Cgroup)
}

/// Whether the programs are on the root cgroup. What is none of ours counts as there.
#[must_use]
pub fn is_whole(pin_dir: &Path) -> bool {
    let dir = pins::links(pin_dir);
    let there =
        |name: &&str| link::is_whole(&dir.join(format!("{name}-{SUFFIX}")), KIND, Place::Cgroup);
    HOST.iter().all(there)
}

fn replace(ebpf: &mut Ebpf, cgroup: &File, name: &str, dir: &Path) -> Result<()> {
    let program = program(ebpf, name)?;
    // A link always shares the hook with others (kernel/bpf/cgroup.c, `cgroup_bpf_link_attach`) and takes no flag.
    let id = program.attach(cgroup, CgroupAttachMode::Single)?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    pins::put(&dir.join(format!("{name}-{SUFFIX}")), |fresh| {
        link.pin(fresh)?;
        Ok(())
    })
}

/// One of the programs for the host's calls.
///
/// # Errors
/// When the object has no such program.
pub fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut CgroupSockAddr> {
    ebpf.program_mut(name)
        .with_context(|| format!("program {name} is not in the object"))?
        .try_into()
        .with_context(|| format!("program {name} is of another type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_wherever_it_is_mounted() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(
            parse_mounts(hybrid),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        let odd = "none /mnt/a\\040b cgroup2 rw 0 0";
        assert_eq!(parse_mounts(odd), Some(PathBuf::from("/mnt/a b")));
        assert_eq!(parse_mounts("proc /proc proc rw 0 0"), None);
    }

    #[test]
    fn pins_are_told_apart() {
        assert_eq!(parse_pin("host_connect4-cgroup"), Some("host_connect4"));
        assert_eq!(parse_pin("fresh-host_connect4-cgroup"), None);
        assert_eq!(parse_pin("uplink_ingress-2"), None);
    }
}
