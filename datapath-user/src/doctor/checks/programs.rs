//! Other programs on the interfaces that ours are attached to.

use aya::programs::{SchedClassifier, TcAttachType};
use datapath_common::names::programs::CLASSIFIERS;

use super::super::{Found, Subject, fine, note, unknown};
use crate::kernel::attach;

pub(super) fn look(subject: &Subject) -> Found {
    if !subject.root {
        return vec![unknown(
            "programs of others on the interfaces cannot be looked at",
        )];
    }
    let mut found = Found::new();
    let interfaces: Vec<_> = subject
        .uplinks()
        .into_iter()
        .chain(subject.bridges())
        .collect();
    for interface in &interfaces {
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
                found.push(note(format!(
                    "{interface}, tcx {hook}: {} of others run beside ours; what they redirect or drop first is not \
                     seen by us",
                    others.join(", ")
                )));
            }
        }
    }
    for interface in interfaces {
        let others = attach::others(&interface);
        if !others.is_empty() {
            let names: Vec<_> = others.iter().map(|name| named(name)).collect();
            found.push(note(format!(
                "{interface}, clsact: filters of others run beside ours ({}); what is redirected or dropped before them is \
                 not seen by them",
                names.join(", ")
            )));
        }
    }
    if found.is_empty() {
        found.push(fine("no program of others on the uplinks and bridges"));
    }
    found
}

fn named(name: &str) -> &str {
    if name.is_empty() {
        "one without a name"
    } else {
        name
    }
}
