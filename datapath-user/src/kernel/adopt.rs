//! Pinned maps are adopted only if they are ours: of the name, type and sizes that the programs were built with.
//! A pin that goes missing is put back.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{MapData, MapInfo},
    programs::{ProgramInfo, loaded_programs},
};
use aya_obj::Object;
use datapath_common::names::{maps::ALL, programs::UPLINK_XDP};
use tracing::warn;

use super::{
    attach, cgroup,
    link::{self, Link},
    pins, xdp,
};

/// Looks at what is pinned under the names of the object's maps. Where some are missing and others are not, the
/// missing ones are looked for behind the programs that are attached; those that nobody has begin empty.
///
/// # Errors
/// Names the first pin that is none of ours, and the remedy.
pub fn check(object: &[u8], pin_dir: &Path) -> Result<()> {
    let object = Object::parse(object).context("the eBPF object in this program")?;
    let dir = pins::maps(pin_dir);
    let mut missing = Vec::new();
    for name in ALL {
        let map = object
            .maps
            .get(*name)
            .with_context(|| format!("map {name} is not in the object"))?;
        let pin = dir.join(name);
        let refuse = |what: &str| {
            format!(
                "pin_dir: {}: {what}; take everything out with `datapath detach` and start the service anew",
                pin.display()
            )
        };
        match fs::symlink_metadata(&pin) {
            Err(_) => {
                missing.push(*name);
                continue;
            }
            Ok(data) if data.is_symlink() => bail!(refuse("a symbolic link, not a map")),
            Ok(_) => {}
        }
        let info = MapInfo::from_pin(&pin).with_context(|| refuse("not a map"))?;
        let found = (
            info.name_as_str(),
            info.map_type().ok().map(|kind| kind as u32),
            info.key_size(),
            info.value_size(),
        );
        let ours = (
            Some(*name),
            Some(map.map_type()),
            map.key_size(),
            map.value_size(),
        );
        if found != ours {
            bail!(refuse("not a map of datapath's, or of another version's"));
        }
    }
    let attached = attached(pin_dir)?;
    // Without CAP_SYS_ADMIN the kernel names none: there is no telling then, and no refusal.
    let programs: Vec<_> = loaded_programs().map_while(Result::ok).collect();
    for one in &attached {
        let behind = programs.iter().find(|program| program.id() == one.id);
        if let Some(name) = behind.and_then(ProgramInfo::name_as_str) {
            link::require_name(&one.pin, "a link to program", name, &one.program)?;
        }
    }
    if missing.len() < ALL.len() {
        let mut ours = programs;
        ours.retain(|program| attached.iter().any(|one| one.id == program.id()));
        recover(pin_dir, &missing, &ours);
    }
    Ok(())
}

/// Whether no map is pinned there.
#[must_use]
pub fn is_empty(maps: &Path) -> bool {
    fs::read_dir(maps).is_ok_and(|mut entries| entries.next().is_none())
}

/// A program that a former service left attached.
struct Attached {
    pin: PathBuf,
    /// Its name, as the pin's says.
    program: String,
    /// The id of the program that is there.
    id: u32,
}

/// What is attached by the pins of links. Something else in the place of one that leads the host's own calls, or that of the
/// driver's level, is named when that is to be attached: all else works without it.
///
/// # Errors
/// Names the first pin of a classifier's that is none of ours, and the remedy.
fn attached(pin_dir: &Path) -> Result<Vec<Attached>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(pins::links(pin_dir))
        .into_iter()
        .flatten()
        .flatten()
    {
        let (name, pin) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        let (program, link) = if let Some((program, ifindex)) = attach::parse_classifier(&name) {
            (program, attach::examine(&pin, program, ifindex)?.1)
        } else if let Some(program) = cgroup::parse_pin(&name) {
            (program, cgroup::examine(&pin).unwrap_or(Link::Dead))
        } else if let Some((ifindex, _)) = xdp::parse_pin(&name) {
            (
                UPLINK_XDP,
                xdp::examine(&pin, ifindex).unwrap_or(Link::Dead),
            )
        } else {
            continue;
        };
        if let Link::Attached { program: id } = link {
            let program = program.to_owned();
            all.push(Attached { pin, program, id });
        }
    }
    Ok(all)
}

/// Pins maps again that the attached programs still use.
fn recover(pin_dir: &Path, missing: &[&str], programs: &[ProgramInfo]) {
    if missing.is_empty() {
        return;
    }
    let used: Vec<u32> = programs
        .iter()
        .filter_map(|program| program.map_ids().ok().flatten())
        .flatten()
        .collect();
    for name in missing {
        let pinned = used
            .iter()
            .filter_map(|id| MapData::from_id(*id).ok())
            .find(|map| {
                map.info()
                    .is_ok_and(|info| info.name_as_str() == Some(*name))
            })
            .is_some_and(|map| map.pin(pins::maps(pin_dir).join(name)).is_ok());
        if pinned {
            warn!("map {name} was not pinned any more; the programs still had it, and it is again");
        } else {
            warn!("map {name} was not pinned any more; it begins empty");
        }
    }
}

/// The maps that this service works with, by their ids.
#[derive(Debug)]
pub struct Adopted(BTreeMap<&'static str, u32>);

impl Adopted {
    /// Those that are pinned.
    ///
    /// # Errors
    /// When one is not.
    pub fn of(pin_dir: &Path) -> Result<Self> {
        let dir = pins::maps(pin_dir);
        let id = |name: &&'static str| Ok((*name, MapInfo::from_pin(dir.join(name))?.id()));
        Ok(Self(ALL.iter().map(id).collect::<Result<_>>()?))
    }

    /// Whether none of their pins is missing, whatever is there.
    #[must_use]
    pub fn are_pinned(&self, pin_dir: &Path) -> bool {
        let dir = pins::maps(pin_dir);
        let mut names = self.0.keys();
        names.all(|name| fs::symlink_metadata(dir.join(name)).is_ok())
    }

    /// Looks whether they are still pinned, and root's alone, and pins those again that are not.
    ///
    /// # Errors
    /// When something else is pinned in the place of one: it is neither used nor removed.
    pub fn restore(&self, ebpf: &Ebpf, pin_dir: &Path) -> Result<()> {
        pins::prepare(pin_dir)?;
        for (name, id) in &self.0 {
            let pin = pins::maps(pin_dir).join(name);
            let stranger = || {
                format!(
                    "pin_dir: {}: not the map that the service works with; remove it",
                    pin.display()
                )
            };
            match fs::symlink_metadata(&pin) {
                Ok(data) if data.is_symlink() => bail!(stranger()),
                Ok(data) => {
                    let found = MapInfo::from_pin(&pin).with_context(stranger)?;
                    if found.id() != *id {
                        bail!(stranger());
                    }
                    if data.mode() & 0o7777 != pins::PRIVATE {
                        pins::make_private(&pin)
                            .with_context(|| format!("pin_dir: {}: not private", pin.display()))?;
                        warn!("others could open map {name}; they cannot any more");
                    }
                }
                Err(_) => {
                    let map = ebpf
                        .map(name)
                        .with_context(|| format!("map {name} is gone"))?;
                    map.pin(&pin).with_context(|| format!("map {name}"))?;
                    pins::make_private(&pin)?;
                    warn!("map {name} was not pinned any more; it is again");
                }
            }
        }
        Ok(())
    }
}
