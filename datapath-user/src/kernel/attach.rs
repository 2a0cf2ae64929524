//! Classifiers on interfaces: exactly one attachment for each, pinned, replaced in place.

mod clsact;
mod tcx;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    programs::{ProgramError, SchedClassifier, TcAttachType},
};
use datapath_common::names::programs::{
    BRIDGE_INGRESS, CLASSIFIERS, UPLINK_EGRESS, UPLINK_INGRESS, VETH_INGRESS,
};
use tracing::warn;

use super::{
    interface,
    link::{Found, Link},
    object, pins,
};
use crate::config::Attach;

/// How classifiers are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// By links to the TCX hooks (Linux 6.6): their pins hold them.
    Tcx,
    /// By filters of the queueing discipline clsact. The pin is the program's: a filter has none.
    Clsact,
}

impl Means {
    /// What this kernel has of what is configured.
    ///
    /// # Errors
    /// When it does not have what is asked for.
    pub fn choose(configured: Attach) -> Result<Self> {
        match (configured, has_tcx()) {
            (Attach::Auto | Attach::Tcx, true) => Ok(Self::Tcx),
            (Attach::Auto | Attach::Clsact, _) => Ok(Self::Clsact),
            (Attach::Tcx, false) => {
                bail!("attach: \"tcx\": this kernel has none (Linux 6.6 or later); write \"auto\"")
            }
        }
    }

    /// By what a pin of a classifier's was attached.
    ///
    /// # Errors
    /// When it is neither: names the pin, and the remedy.
    pub fn of(pin: &Path) -> Result<Self> {
        Found::look(pin).map(|found| Self::by(&found))
    }

    fn by(found: &Found<'_>) -> Self {
        if found.is_program() {
            Self::Clsact
        } else {
            Self::Tcx
        }
    }

    /// The hook's kind, in the words of `tc` and `bpftool`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "tc",
        }
    }
}

/// Whether the kernel knows the TCX hooks: without them it does not know what it is asked.
#[must_use]
pub fn has_tcx() -> bool {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Err(ProgramError::SyscallError(call)) => call.io_error.raw_os_error() != Some(libc::EINVAL),
        _ => true,
    }
}

/// A program that is to be attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hook {
    /// The program's name.
    pub program: &'static str,
    /// The interface's name.
    pub interface: String,
    /// The interface's index: a deleted interface that comes back has another.
    pub ifindex: u32,
}

impl Hook {
    /// The name of its pin.
    #[must_use]
    pub fn pin(&self) -> String {
        format!("{}-{}", self.program, self.ifindex)
    }
}

/// What an interface is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Leads outside.
    Uplink,
    /// The bridge of a managed network.
    Bridge,
    /// A port of such a bridge, with an endpoint behind it.
    Port,
}

/// The hooks of an interface.
#[must_use]
pub fn hooks(interface: &str, ifindex: u32, role: Role) -> Vec<Hook> {
    let programs: &[&'static str] = match role {
        Role::Uplink => &[UPLINK_INGRESS, UPLINK_EGRESS],
        Role::Bridge => &[BRIDGE_INGRESS],
        Role::Port => &[VETH_INGRESS],
    };
    programs
        .iter()
        .map(|program| Hook {
            program,
            interface: interface.to_owned(),
            ifindex,
        })
        .collect()
}

/// A program and interface index by the name of a pin.
#[must_use]
pub fn parse_pin(name: &str) -> Option<(&str, u32)> {
    let (program, ifindex) = name.rsplit_once('-')?;
    Some((program, ifindex.parse().ok()?))
}

/// Likewise, of one of the classifiers.
#[must_use]
pub fn parse_classifier(name: &str) -> Option<(&str, u32)> {
    parse_pin(name).filter(|(program, _)| CLASSIFIERS.contains(program))
}

/// Attaches what is missing, puts this object's program behind every pinned link that has another (the kernel
/// swaps them atomically), and takes off what is no longer wanted.
///
/// `known` are the hooks that were there the last time: what is missing of them somebody else took off. With
/// `keep` nothing is taken off.
///
/// # Errors
/// The first that occurs, after everything was tried. What is none of ours is neither used nor removed.
pub fn reconcile(
    ebpf: &mut Ebpf,
    pin_dir: &Path,
    means: Means,
    wanted: &BTreeSet<Hook>,
    known: &BTreeSet<Hook>,
    keep: bool,
) -> Result<()> {
    let dir = pins::links(pin_dir);
    let mut result = Ok(());
    let mut attached = BTreeSet::new();
    let names: BTreeSet<_> = wanted.iter().map(Hook::pin).collect();
    for entry in fs::read_dir(&dir).context("links")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((program, ifindex)) = parse_classifier(&name) else {
            continue;
        };
        if !keep && !names.contains(&name) {
            let pin = entry.path();
            // What is none of ours stays.
            let removed = examine(&pin, program, ifindex)
                .and_then(|found| remove(found, &pin, program, ifindex));
            result = result.and(removed);
            continue;
        }
        match refresh(ebpf, means, program, ifindex, &entry.path()) {
            Ok(true) => drop(attached.insert(name)),
            Ok(false) => {}
            // The name is taken: nothing else can be there.
            Err(error) => {
                result = result.and(Err(error));
                attached.insert(name);
            }
        }
    }
    for hook in wanted.iter().filter(|hook| !attached.contains(&hook.pin())) {
        if is_gone(hook.ifindex) {
            continue;
        }
        if known.contains(hook) {
            warn!(
                "{} was taken off {} by somebody else; it is attached again",
                hook.program, hook.interface
            );
        }
        let done = attach(ebpf, means, hook, &dir.join(hook.pin()));
        if done.is_err() && is_gone(hook.ifindex) {
            continue;
        }
        result =
            result.and(done.with_context(|| format!("{} on {}", hook.program, hook.interface)));
    }
    result
}

/// Whether an interface went since the interfaces were looked at, and its programs with it. That is nobody's doing and no
/// fault: the kernel's message of it is on its way, and with it the next look.
fn is_gone(ifindex: u32) -> bool {
    interface::name(ifindex).is_none()
}

/// Whether these are attached, but for the ports of endpoints.
#[must_use]
pub fn is_whole(pin_dir: &Path, hooks: &BTreeSet<Hook>) -> bool {
    let dir = pins::links(pin_dir);
    let mut hooks = hooks.iter().filter(|hook| hook.program != VETH_INGRESS);
    hooks.all(|hook| {
        let pin = dir.join(hook.pin());
        // What is none of ours counts as attached: only a person can help there.
        let dead = || {
            matches!(
                examine(&pin, hook.program, hook.ifindex),
                Ok((_, Link::Dead))
            )
        };
        fs::symlink_metadata(&pin).is_ok() && !dead()
    })
}

/// Looks at what is pinned under the name of a classifier's: by what it was attached, and whether it is.
///
/// # Errors
/// When it is none of ours: names the pin, what it is, and the remedy.
pub fn examine(pin: &Path, program: &str, ifindex: u32) -> Result<(Means, Link)> {
    let found = Found::look(pin)?;
    let means = Means::by(&found);
    let link = match means {
        Means::Tcx => tcx::examine(&found, ifindex),
        Means::Clsact => clsact::examine(pin, program, ifindex),
    };
    Ok((means, link?))
}

/// Puts this object's program in the place of another that is attached. Says whether it is: what is dead, or attached by
/// other means, is taken away.
fn refresh(ebpf: &mut Ebpf, means: Means, name: &str, ifindex: u32, pin: &Path) -> Result<bool> {
    let found = examine(pin, name, ifindex)?;
    let attached = match found {
        (by, Link::Attached { program }) if by == means => program,
        _ => {
            remove(found, pin, name, ifindex)?;
            return Ok(false);
        }
    };
    let program = object::program(ebpf, name)?;
    if attached != program.info()?.id() {
        match means {
            Means::Tcx => tcx::swap(program, pin),
            Means::Clsact => clsact::swap(program, direction(name), ifindex, pin),
        }
        .with_context(|| format!("link {}: replacing the program", pin.display()))?;
    }
    Ok(true)
}

/// Takes a program of ours off, which was found attached like this or dead, and its pin away.
fn remove((means, link): (Means, Link), pin: &Path, program: &str, ifindex: u32) -> Result<()> {
    if means == Means::Clsact {
        clsact::take_off(link != Link::Dead, direction(program), ifindex, pin)?;
    }
    // The pin holds a link: without it the kernel takes the program off.
    fs::remove_file(pin).with_context(|| format!("link {}", pin.display()))
}

/// Takes off the filter of clsact that belongs to a pin, if it is one of a filter's, and the filter is there and ours. The
/// pin is the caller's; a link goes with it.
///
/// # Errors
/// When the kernel refuses.
pub fn take_off(pin: &Path, program: &str, ifindex: u32) -> Result<()> {
    if Means::of(pin).ok() != Some(Means::Clsact) {
        return Ok(());
    }
    let ours = matches!(
        clsact::examine(pin, program, ifindex),
        Ok(Link::Attached { .. })
    );
    clsact::take_off(ours, direction(program), ifindex, pin)
}

fn attach(ebpf: &mut Ebpf, means: Means, hook: &Hook, pin: &Path) -> Result<()> {
    let program = object::program(ebpf, hook.program)?;
    match means {
        Means::Tcx => tcx::attach(program, direction(hook.program), &hook.interface, pin),
        Means::Clsact => clsact::attach(program, hook, direction(hook.program), pin),
    }
}

/// The filters of clsact on an interface that are not ours, by what they are called.
#[must_use]
pub fn others(interface: &str) -> Vec<String> {
    let ifindex = nix::net::if_::if_nametoindex(interface).unwrap_or(0);
    clsact::others(ifindex)
}

fn direction(program: &str) -> TcAttachType {
    if program == UPLINK_EGRESS {
        TcAttachType::Egress
    } else {
        TcAttachType::Ingress
    }
}
