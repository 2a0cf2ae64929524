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
    BRIDGE_INGRESS, UPLINK_EGRESS, UPLINK_INGRESS, VETH_INGRESS,
};

use super::{cgroup, object, pins, xdp};

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

/// Attaches what is missing, puts this object's program behind every pinned link (the kernel swaps them
/// atomically), and takes off what is no longer wanted.
///
/// `replace` is for the first time after loading; with `keep` nothing is taken off.
///
/// # Errors
/// The first that occurs, after everything was tried.
pub fn reconcile(
    ebpf: &mut Ebpf,
    pin_dir: &Path,
    wanted: &BTreeSet<Hook>,
    replace: bool,
    keep: bool,
) -> Result<()> {
    let dir = pins::links(pin_dir);
    let mut result = Ok(());
    let mut attached = BTreeSet::new();
    for entry in fs::read_dir(&dir).context("links")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if cgroup::parse_pin(&name).is_some() || xdp::parse_pin(&name).is_some() {
            continue;
        }
        let Some((program, _)) = parse_pin(&name) else {
            continue;
        };
        if !keep && !wanted.iter().any(|hook| hook.pin() == name) {
            // The pin holds the link: without it the kernel takes the program off.
            result =
                result.and(fs::remove_file(entry.path()).with_context(|| format!("link {name}")));
            continue;
        }
        if replace {
            let done = swap(ebpf, program, &entry.path());
            result =
                result.and(done.with_context(|| format!("link {name}: replacing the program")));
        }
        attached.insert(name);
    }
    for hook in wanted.iter().filter(|hook| !attached.contains(&hook.pin())) {
        let done = attach(ebpf, hook, &dir.join(hook.pin()));
        result =
            result.and(done.with_context(|| format!("{} on {}", hook.program, hook.interface)));
    }
    result
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
