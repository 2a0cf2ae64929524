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
use aya::programs::ProgramInfo;

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

/// What is pinned under a name of ours, as the kernel described it: looked at once, whatever is asked of it.
pub struct Found<'pin> {
    pin: &'pin Path,
    /// A name and a value on each line (`fdinfo`, proc(5)).
    said: String,
}

impl<'pin> Found<'pin> {
    /// Looks.
    ///
    /// # Errors
    /// When it is nothing of BPF's, or a symbolic link to it: names the pin, and the remedy.
    pub fn look(pin: &'pin Path) -> Result<Self> {
        if fs::symlink_metadata(pin)
            .with_context(|| stranger(pin, "nothing readable"))?
            .is_symlink()
        {
            bail!(stranger(pin, "a symbolic link"));
        }
        let said = describe(pin).with_context(|| stranger(pin, "something unreadable"))?;
        Ok(Self { pin, said })
    }

    /// Whether it is a program, and not a link to one.
    #[must_use]
    pub fn is_program(&self) -> bool {
        self.field("prog_type").is_some() && self.field("link_type").is_none()
    }

    /// The id of the program that it is, or that is behind the link that it is.
    ///
    /// # Errors
    /// When it is neither: names the pin, and the remedy.
    pub fn program(&self) -> Result<u32> {
        let id = self.field("prog_id").and_then(|text| text.parse().ok());
        id.with_context(|| stranger(self.pin, "something without a program"))
    }

    /// The link that it is, where `kind` is the kernel's word for such links.
    ///
    /// # Errors
    /// When it is none of ours: names the pin, what it is, and the remedy.
    pub fn link(&self, kind: &str, place: Place) -> Result<Link> {
        let found = self
            .field("link_type")
            .unwrap_or("not a link, but something");
        if found != kind {
            bail!(stranger(self.pin, found));
        }
        let at = match place {
            Place::Interface(_) => self.field("ifindex"),
            Place::Cgroup => self.field("cgroup_id"),
        };
        let at = at.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        match (place, at) {
            (_, 0) => return Ok(Link::Dead),
            (Place::Interface(index), at) if at != u64::from(index) => {
                bail!(stranger(self.pin, &format!("a link to interface {at}")));
            }
            _ => {}
        }
        Ok(Link::Attached {
            program: self.program()?,
        })
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.said.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(':')?;
            Some(value.trim())
        })
    }
}

/// Looks at what is pinned under the name of a link of ours.
///
/// # Errors
/// As [`Found::look`] and [`Found::link`].
pub fn examine(pin: &Path, kind: &str, place: Place) -> Result<Link> {
    Found::look(pin)?.link(kind, place)
}

/// Refuses another program than ours in the place of its pin.
///
/// # Errors
/// Names the pin, what is there, and the remedy.
pub fn require_program(pin: &Path, program: &str) -> Result<()> {
    let found =
        ProgramInfo::from_pin(pin).with_context(|| stranger(pin, "something unreadable"))?;
    require_name(pin, "program", found.name_as_str().unwrap_or(""), program)
}

/// Whether a link of ours is attached there. What is none of ours counts as attached, since only a person can help
/// there; a pin that is missing does not.
#[must_use]
pub fn is_whole(pin: &Path, kind: &str, place: Place) -> bool {
    let missing = fs::symlink_metadata(pin).is_err();
    !missing && !matches!(examine(pin, kind, place), Ok(Link::Dead))
}

/// Refuses what is pinned if its program has another `name` than the one that belongs there.
///
/// # Errors
/// Names the pin, what it is, and the remedy.
pub fn require_name(pin: &Path, what: &str, name: &str, program: &str) -> Result<()> {
    if name != cut(program) {
        bail!(stranger(pin, &format!("{what} {name}")));
    }
    Ok(())
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

/// What the kernel says of a pinned object.
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
