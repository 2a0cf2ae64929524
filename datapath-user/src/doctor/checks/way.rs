//! How packets are sent on: past the stack or through it, and why.

use super::super::{Found, Subject, fine, note};
use crate::reconcile::forwarding;

pub(super) fn look(subject: &Subject) -> Found {
    let ways = match &subject.service {
        Some(status) => status.forwarding.clone(),
        None => forwarding::decide(
            subject.config.forwarding,
            &subject.desired,
            subject.obstacle.as_ref(),
        ),
    };
    let now = if subject.service.is_some() {
        ""
    } else {
        "would be "
    };
    [("IPv4", ways.ipv4), ("IPv6", ways.ipv6)]
        .into_iter()
        .map(|(family, way)| {
            let says = format!("{family} {now}{way}");
            if way.fast { fine(says) } else { note(says) }
        })
        .collect()
}
