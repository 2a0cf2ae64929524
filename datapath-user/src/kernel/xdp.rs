//! The program at the driver's level of uplinks: at most one attachment for each, pinned, replaced in place.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{
        ProgramError, Xdp,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
};
use datapath_common::names::programs::UPLINK_XDP;
use tracing::warn;

use super::{
    attach, interface,
    link::{self, Link, Place},
    pins,
};

/// The kernel's word for such links.
const KIND: &str = "xdp";

/// How the program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// By the driver, before there is a socket buffer.
    Native,
    /// By the kernel's receive path, on a socket buffer.
    Generic,
}

impl Mode {
    const ALL: [Self; 2] = [Self::Native, Self::Generic];

    /// Its name, as pins and people have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn flag(self) -> aya::programs::xdp::XdpMode {
        match self {
            Self::Native => aya::programs::xdp::XdpMode::Driver,
            Self::Generic => aya::programs::xdp::XdpMode::Skb,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn pin_name(ifindex: u32, mode: Mode) -> String {
    format!("{UPLINK_XDP}_{mode}-{ifindex}")
}

/// The interface index and mode of a pin of ours.
#[must_use]
pub fn parse_pin(name: &str) -> Option<(u32, Mode)> {
    let (program, ifindex) = attach::parse_pin(name)?;
    let mode = program.strip_prefix(UPLINK_XDP)?.strip_prefix('_')?;
    let mode = Mode::ALL.into_iter().find(|known| known.name() == mode)?;
    Some((ifindex, mode))
}

/// The uplinks that the program is pinned on, by index.
///
/// # Errors
/// When the directory cannot be read.
pub fn attached(pin_dir: &Path) -> Result<BTreeMap<u32, Mode>> {
    let entries = fs::read_dir(pins::links(pin_dir)).context("links")?;
    Ok(entries
        .flatten()
        .filter_map(|entry| parse_pin(&entry.file_name().to_string_lossy()))
        .collect())
}

/// Takes off what is not wanted, puts this object's program behind every pinned link that has another (the kernel
/// swaps them atomically), and attaches what is missing. Returns what could not be, by index.
///
/// `known` is what ran the last time: what is missing of it somebody else took off.
///
/// # Errors
/// When the pins cannot be read or removed. What is none of ours is neither used nor removed.
pub fn reconcile(
    ebpf: &mut Ebpf,
    pin_dir: &Path,
    wanted: &BTreeMap<u32, Mode>,
    known: &BTreeMap<u32, Mode>,
) -> Result<BTreeMap<u32, String>> {
    let dir = pins::links(pin_dir);
    let mut faults = BTreeMap::new();
    let mut alive = BTreeMap::new();
    for (ifindex, mode) in attached(pin_dir)? {
        let name = pin_name(ifindex, mode);
        let keep = wanted.get(&ifindex) == Some(&mode);
        match refresh(ebpf, ifindex, &dir.join(&name), keep) {
            Ok(true) => drop(alive.insert(ifindex, mode)),
            Ok(false) => {}
            Err(error) => {
                // The name is taken: nothing else can be there.
                faults.insert(ifindex, format!("{error:#}"));
                alive.insert(ifindex, mode);
            }
        }
    }
    for (ifindex, mode) in wanted {
        if alive.get(ifindex) == Some(mode) {
            continue;
        }
        if known.get(ifindex) == Some(mode) {
            warn!(
                "{UPLINK_XDP} was taken off {} by somebody else; it is attached again",
                interface::name_or_number(*ifindex)
            );
        }
        if let Err(error) = attach(ebpf, *ifindex, *mode, &dir.join(pin_name(*ifindex, *mode))) {
            faults.insert(*ifindex, fault(&error));
        }
    }
    Ok(faults)
}

/// Whether all that is wanted is attached. What is none of ours counts as attached: another look helps nothing.
#[must_use]
pub fn is_whole(pin_dir: &Path, wanted: &BTreeMap<u32, Mode>) -> bool {
    let dir = pins::links(pin_dir);
    wanted.iter().all(|(ifindex, mode)| {
        let pin = dir.join(pin_name(*ifindex, *mode));
        link::is_whole(&pin, KIND, Place::Interface(*ifindex))
    })
}

/// Looks at what is pinned under the name of such a link.
///
/// # Errors
/// When it is none of ours.
pub fn examine(pin: &Path, ifindex: u32) -> Result<Link> {
    link::examine(pin, KIND, Place::Interface(ifindex))
}

/// Puts this object's program behind a pinned link that is to be kept, if another is there. Says whether the link
/// lives, and is kept: else its pin is taken away, and with it the link.
fn refresh(ebpf: &mut Ebpf, ifindex: u32, pin: &Path, keep: bool) -> Result<bool> {
    match examine(pin, ifindex)? {
        Link::Attached { program: id } if keep => {
            if id != program(ebpf)?.info()?.id() {
                swap(ebpf, pin).context("replacing the program")?;
            }
            Ok(true)
        }
        Link::Attached { .. } | Link::Dead => {
            fs::remove_file(pin).with_context(|| format!("link {}", pin.display()))?;
            Ok(false)
        }
    }
}

/// The program.
///
/// # Errors
/// When the object has no such program.
pub fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    ebpf.program_mut(UPLINK_XDP)
        .with_context(|| format!("program {UPLINK_XDP} is not in the object"))?
        .try_into()
        .with_context(|| format!("program {UPLINK_XDP} is of another type"))
}

fn attach(ebpf: &mut Ebpf, ifindex: u32, mode: Mode, pin: &Path) -> Result<()> {
    let program = program(ebpf)?;
    let id = program.attach_to_if_index(ifindex, mode.flag())?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(pin)?;
    pins::make_private(pin)?;
    Ok(())
}

fn swap(ebpf: &mut Ebpf, pin: &Path) -> Result<()> {
    let program = program(ebpf)?;
    let link = FdLink::from(PinnedLink::from_pin(pin)?);
    let id = program.attach_to_link(XdpLink::try_from(link)?)?;
    // The pin goes on holding the link; this descriptor is not needed.
    drop(program.take_link(id)?);
    Ok(())
}

/// Why the kernel refused, in words.
fn fault(error: &anyhow::Error) -> String {
    let number = if let Some(ProgramError::SyscallError(call)) = error.downcast_ref() {
        call.io_error.raw_os_error()
    } else {
        None
    };
    match number {
        Some(libc::EBUSY | libc::EEXIST) => {
            "another XDP program is attached here; take it off, or write xdp = \"off\"".to_owned()
        }
        Some(libc::EOPNOTSUPP) => "the driver does not run XDP programs".to_owned(),
        _ => format!("the kernel refused: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_tell_interface_and_mode() {
        for mode in Mode::ALL {
            assert_eq!(parse_pin(&pin_name(7, mode)), Some((7, mode)));
        }
        assert_eq!(parse_pin("uplink_xdp-7"), None);
        assert_eq!(parse_pin("uplink_ingress-7"), None);
    }
}
