//! A pinned link as the kernel sees it: whether it is one, where it is attached, and which program is behind it.
//!
//! A name in the links' directory proves nothing: a link outlives its interface, can be forced off it
//! (`bpftool link detach`), and anybody with the right to may pin something else in its place.

use std::{
    ffi::CString,
    fs,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use aya::programs::{ProgramInfo, loaded_programs};

use super::batch::bpf_value;

/// A command of bpf(2), from include/uapi/linux/bpf.h.
const OBJ_GET: libc::c_long = 7;
/// The kernel keeps so many bytes of a program's name.
const NAME: usize = 15;

/// The part of `union bpf_attr` that pins use.
#[repr(C)]
#[derive(Default)]
struct PinAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Where a link of ours is attached, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To an interface, by its index.
    Interface(u32),
    /// To a cgroup.
    Cgroup,
}

/// What is behind the name of a link of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It is attached where it should be; the program has this id.
    Attached {
        /// The program's id.
        program: u32,
    },
    /// Its interface or cgroup is gone, or it was forced off it.
    Dead,
}

/// Looks at what is pinned under the name of a link of ours. `kind` is the kernel's word for such links.
///
/// # Errors
/// When it is none of ours: names the pin, what it is, and the remedy.
pub fn examine(pin: &Path, kind: &str, place: Place) -> Result<Link> {
    let foreign = |what: &str| stranger(pin, what);
    if fs::symlink_metadata(pin)
        .with_context(|| foreign("nothing readable"))?
        .is_symlink()
    {
        bail!(foreign("a symbolic link"));
    }
    let described = describe(pin).with_context(|| foreign("something unreadable"))?;
    let field = |name: &str| described.lines().find_map(|line| value(line, name));
    let found = field("link_type").unwrap_or("not a link, but something");
    if found != kind {
        bail!(foreign(found));
    }
    let number = |name: &str| field(name).and_then(|text| text.parse::<u64>().ok());
    let at = match place {
        Place::Interface(_) => number("ifindex"),
        Place::Cgroup => number("cgroup_id"),
    };
    match (place, at.unwrap_or(0)) {
        (_, 0) => return Ok(Link::Dead),
        (Place::Interface(index), at) if at != u64::from(index) => {
            bail!(foreign(&format!("a link to interface {at}")));
        }
        _ => {}
    }
    let id = number("prog_id")
        .and_then(|id| u32::try_from(id).ok())
        .with_context(|| foreign("a link with no program"))?;
    Ok(Link::Attached { program: id })
}

/// Whether a program is pinned there, and not a link to one.
///
/// # Errors
/// When it is nothing of BPF's: names the pin, and the remedy.
pub fn is_program(pin: &Path) -> Result<bool> {
    let described = describe(pin).with_context(|| stranger(pin, "something unreadable"))?;
    Ok(described
        .lines()
        .any(|line| value(line, "prog_type").is_some())
        && !described
            .lines()
            .any(|line| value(line, "link_type").is_some()))
}

/// Refuses another program than ours in the place of its pin.
///
/// # Errors
/// Names the pin, what is there, and the remedy.
pub fn require_program(pin: &Path, program: &str) -> Result<()> {
    let foreign = |what: &str| stranger(pin, what);
    let data = fs::symlink_metadata(pin).with_context(|| foreign("nothing readable"))?;
    if data.is_symlink() {
        bail!(foreign("a symbolic link"));
    }
    let found = ProgramInfo::from_pin(pin).with_context(|| foreign("something unreadable"))?;
    match found.name_as_str() {
        Some(name) if name == cut(program) => Ok(()),
        name => bail!(foreign(&format!("program {}", name.unwrap_or_default()))),
    }
}

/// The id of the program that is pinned there, or that is behind the link that is.
///
/// # Errors
/// When it is neither: names the pin, and the remedy.
pub fn program(pin: &Path) -> Result<u32> {
    let described = describe(pin).with_context(|| stranger(pin, "something unreadable"))?;
    let id = described.lines().find_map(|line| value(line, "prog_id"));
    id.and_then(|text| text.parse().ok())
        .with_context(|| stranger(pin, "something without a program"))
}

/// Whether a link of ours is attached there. What is none of ours counts as attached, since only a person can help
/// there; a pin that is missing does not.
#[must_use]
pub fn is_whole(pin: &Path, kind: &str, place: Place) -> bool {
    let missing = fs::symlink_metadata(pin).is_err();
    !missing && !matches!(examine(pin, kind, place), Ok(Link::Dead))
}

/// Refuses a program of somebody else's behind the link of such a pin.
///
/// Only CAP_SYS_ADMIN may look at programs by their ids: without it there is no telling, and no refusal.
///
/// # Errors
/// Names the pin, the program, and the remedy.
pub fn require_ours(pin: &Path, id: u32, program: &str) -> Result<()> {
    let found = loaded_programs()
        .map_while(Result::ok)
        .find(|loaded| loaded.id() == id);
    match found.as_ref().and_then(ProgramInfo::name_as_str) {
        Some(name) if name != cut(program) => {
            bail!(stranger(pin, &format!("a link to program {name}")))
        }
        _ => Ok(()),
    }
}

/// A program's name, as the kernel keeps it.
fn cut(program: &str) -> &str {
    program.get(..NAME).unwrap_or(program)
}

fn stranger(pin: &Path, what: &str) -> String {
    format!(
        "pin_dir: {}: {what} where a link of datapath's should be; remove it and start the service anew",
        pin.display()
    )
}

/// What the kernel says of a pinned object (`fdinfo`, proc(5)): a name and a value on each line.
fn describe(pin: &Path) -> Result<String> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attr = PinAttr {
        path: path.as_ptr() as u64,
        ..PinAttr::default()
    };
    let fd = RawFd::try_from(bpf_value(OBJ_GET, &mut attr)?)?;
    // SAFETY: the kernel just gave us this descriptor, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(fs::read_to_string(format!(
        "/proc/self/fdinfo/{}",
        fd.as_raw_fd()
    ))?)
}

fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.strip_prefix(name)?.strip_prefix(':').map(str::trim)
}
