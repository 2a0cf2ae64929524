//! Classifiers on interfaces: exactly one attachment for each, pinned, replaced in place.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{
        SchedClassifier, TcAttachType,
        links::{FdLink, LinkOrder, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use datapath_common::names::programs::{
    BRIDGE_INGRESS, CLASSIFIERS, UPLINK_EGRESS, UPLINK_INGRESS, VETH_INGRESS,
};
use tracing::warn;

use super::{
    link::{self, Link, Place},
    object, pins,
};

/// The kernel's word for such links.
pub const KIND: &str = "tcx";

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
    wanted: &BTreeSet<Hook>,
    known: &BTreeSet<Hook>,
    keep: bool,
) -> Result<()> {
    let dir = pins::links(pin_dir);
    let mut result = Ok(());
    let mut attached = BTreeSet::new();
    for entry in fs::read_dir(&dir).context("links")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((program, ifindex)) = parse_classifier(&name) else {
            continue;
        };
        if !keep && !wanted.iter().any(|hook| hook.pin() == name) {
            result = result.and(remove(&entry.path(), ifindex));
            continue;
        }
        match refresh(ebpf, program, ifindex, &entry.path()) {
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
        if known.contains(hook) {
            warn!(
                "{} was taken off {} by somebody else; it is attached again",
                hook.program, hook.interface
            );
        }
        let done = attach(ebpf, hook, &dir.join(hook.pin()));
        result =
            result.and(done.with_context(|| format!("{} on {}", hook.program, hook.interface)));
    }
    result
}

/// Whether these are attached, but for the ports of endpoints.
#[must_use]
pub fn is_whole(pin_dir: &Path, hooks: &BTreeSet<Hook>) -> bool {
    let dir = pins::links(pin_dir);
    let mut hooks = hooks.iter().filter(|hook| hook.program != VETH_INGRESS);
    hooks.all(|hook| link::is_whole(&dir.join(hook.pin()), KIND, Place::Interface(hook.ifindex)))
}

/// Puts this object's program behind a pinned link, if another is there. Says whether the link lives: a pin of a
/// dead one is taken away.
fn refresh(ebpf: &mut Ebpf, program: &str, ifindex: u32, pin: &Path) -> Result<bool> {
    match link::examine(pin, KIND, Place::Interface(ifindex))? {
        Link::Dead => {
            fs::remove_file(pin).with_context(|| format!("link {}", pin.display()))?;
            return Ok(false);
        }
        Link::Attached { program: id } if id == object::program(ebpf, program)?.info()?.id() => {}
        Link::Attached { .. } => {
            swap(ebpf, program, pin)
                .with_context(|| format!("link {}: replacing the program", pin.display()))?;
        }
    }
    Ok(true)
}

/// The pin holds the link: without it the kernel takes the program off.
fn remove(pin: &Path, ifindex: u32) -> Result<()> {
    // What is none of ours stays.
    link::examine(pin, KIND, Place::Interface(ifindex))?;
    fs::remove_file(pin).with_context(|| format!("link {}", pin.display()))
}

fn attach(ebpf: &mut Ebpf, hook: &Hook, pin: &Path) -> Result<()> {
    let kind = if hook.program == UPLINK_EGRESS {
        TcAttachType::Egress
    } else {
        TcAttachType::Ingress
    };
    let program = object::program(ebpf, hook.program)?;
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(&hook.interface, kind, options)?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(pin)?;
    pins::make_private(pin)?;
    Ok(())
}

fn swap(ebpf: &mut Ebpf, program: &str, pin: &Path) -> Result<()> {
    let program: &mut SchedClassifier = object::program(ebpf, program)?;
    let link = FdLink::from(PinnedLink::from_pin(pin)?);
    let id = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
    // The pin goes on holding the link; this descriptor is not needed.
    drop(program.take_link(id)?);
    Ok(())
}
