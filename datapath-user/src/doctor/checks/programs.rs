//! Who else sees the packets of the interfaces that our programs are attached to: XDP programs before ours, other
//! programs of TCX and filters of clsact beside them.

use std::collections::BTreeMap;

use aya::programs::{SchedClassifier, TcAttachType, loaded_programs};
use datapath_common::names::programs::{CLASSIFIERS, UPLINK_XDP};

use super::super::{Found, Subject, fine, note, unknown};
use crate::kernel::attach;

pub(super) fn look(subject: &Subject) -> Found {
    if !subject.root {
        return vec![unknown(
            "programs of others on the interfaces cannot be looked at",
        )];
    }
    let interfaces = subject.uplinks().into_iter().chain(subject.bridges());
    let beside = interfaces.flat_map(|interface| beside(&interface));
    let said: Vec<_> = before(subject).into_iter().chain(beside).collect();
    if said.is_empty() {
        return vec![fine("no program of others on the uplinks and bridges")];
    }
    said.into_iter().map(note).collect()
}

/// XDP programs, which see a packet before everything else.
fn before(subject: &Subject) -> Vec<String> {
    if subject.xdp.is_empty() {
        return Vec::new();
    }
    let loaded = loaded_programs().filter_map(Result::ok);
    let names: BTreeMap<_, _> = loaded
        .map(|program| {
            let name = program.name_as_str().unwrap_or_default();
            (program.id(), name.to_owned())
        })
        .collect();
    let name = |id: &u32| names.get(id).map_or("", String::as_str);
    let programs = subject.xdp.iter().flat_map(|(interface, programs)| {
        let others = programs.iter().filter(|id| name(id) != UPLINK_XDP);
        others.map(move |id| (interface, id))
    });
    let said = programs.map(|(interface, id)| {
        format!(
            "{interface}, XDP: program {id} ({}) of others runs before ours, which stay at TC; what it redirects, drops or \
             changes is not seen by us (`ip link set dev {interface} xdp off` takes it off)",
            named(name(id))
        )
    });
    said.collect()
}

/// Programs of TCX, and filters of clsact.
fn beside(interface: &str) -> Vec<String> {
    let mut said = Vec::new();
    for (direction, hook) in [
        (TcAttachType::Ingress, "ingress"),
        (TcAttachType::Egress, "egress"),
    ] {
        let Ok((_, attached)) = SchedClassifier::query_tcx(interface, direction) else {
            continue;
        };
        let others: Vec<_> = attached
            .iter()
            .map(|program| named(program.name_as_str().unwrap_or_default()))
            .filter(|name| !CLASSIFIERS.contains(name))
            .collect();
        if !others.is_empty() {
            said.push(format!(
                "{interface}, tcx {hook}: {} of others run beside ours; what they redirect or drop first is not seen by us \
                 (`bpftool net show dev {interface}` lists them)",
                others.join(", ")
            ));
        }
    }
    let others = attach::others(interface);
    if !others.is_empty() {
        let names: Vec<_> = others.iter().map(|name| named(name)).collect();
        said.push(format!(
            "{interface}, clsact: filters of others run beside ours ({}); what is redirected or dropped before them is not \
             seen by them (`forwarding = \"kernel\"` shows them all; `tc filter del dev {interface} ingress`, or egress, \
             takes them off)",
            names.join(", ")
        ));
    }
    said
}

fn named(name: &str) -> &str {
    if name.is_empty() {
        "one without a name"
    } else {
        name
    }
}
