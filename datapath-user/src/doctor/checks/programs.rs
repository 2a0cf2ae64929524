//! Other programs on the interfaces that ours are attached to.

use aya::programs::{SchedClassifier, TcAttachType};
use datapath_common::names::programs::CLASSIFIERS;

use super::super::{Found, Subject, fine, note, unknown};

pub(super) fn look(subject: &Subject) -> Found {
    if !subject.root {
        return vec![unknown(
            "programs of others on the interfaces cannot be looked at",
        )];
    }
    let mut found = Found::new();
    for interface in subject.uplinks().into_iter().chain(subject.bridges()) {
        for (direction, hook) in [
            (TcAttachType::Ingress, "ingress"),
            (TcAttachType::Egress, "egress"),
        ] {
            let Ok((_, attached)) = SchedClassifier::query_tcx(&interface, direction) else {
                continue;
            };
            let others: Vec<_> = attached
                .iter()
                .map(|program| program.name_as_str().unwrap_or("one without a name"))
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
    if found.is_empty() {
        found.push(fine("no program of others on the uplinks and bridges"));
    }
    found
}
