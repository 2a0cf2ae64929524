//! How packets are sent on: past the stack or through it, and why.

use super::super::{Found, Subject, fine, note, unknown};
use crate::{reconcile::forwarding, sources::firewall::Rules};

pub(super) fn look(subject: &Subject) -> Found {
    let service = subject.service.status();
    let ways = match service {
        Some(status) => status.forwarding.clone(),
        None if !subject.root => {
            return vec![unknown(
                "whether rules of this host stand in the way cannot be told",
            )];
        }
        None => forwarding::decide(
            subject.config.forwarding,
            &subject.desired,
            forwarding::switches(&subject.desired),
            &Rules {
                obstacle: subject.obstacle.clone(),
                translates: false,
            },
        ),
    };
    let now = if service.is_some() { "" } else { "would be " };
    [
        ("IPv4", ways.ipv4.fast, ways.ipv4.to_string()),
        ("IPv6", ways.ipv6.fast, ways.ipv6.to_string()),
        ("NAT64", ways.nat64.on, ways.nat64.to_string()),
    ]
    .into_iter()
    .map(|(what, good, way)| {
        let says = format!("{what} {now}{way}");
        if good { fine(says) } else { note(says) }
    })
    .collect()
}
