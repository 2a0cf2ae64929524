//! Containers that went while the engine was away.
//!
//! What the engine said last stays in force until it speaks again. But a container whose interface is gone is gone for
//! certain, and an engine that comes back starts others before it answers: one of them may have the address by then, and
//! would be reached by a port that it never published.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use datapath_common::binding::Source;

use crate::{reconcile::Desired, sources::netlink::Host};

/// The endpoints that Docker's ports lead to.
#[derive(Debug, Default)]
pub(super) struct Departed {
    /// The bridges' ports that they were behind when the engine spoke last.
    doors: BTreeMap<IpAddr, u32>,
    /// Those that went since.
    gone: BTreeSet<IpAddr>,
}

impl Departed {
    /// Looks who went. While the engine speaks nobody did: it says so itself.
    pub(super) fn look(&mut self, host: &Host, speaks: bool) {
        if speaks {
            self.gone.clear();
            return;
        }
        let links: BTreeSet<_> = host.links.iter().map(|link| link.ifindex).collect();
        let gone = self.doors.iter().filter(|(_, door)| !links.contains(door));
        self.gone.extend(gone.map(|(addr, _)| *addr));
    }

    /// Remembers where they are. Whoever has one's address while the engine is away may be another.
    pub(super) fn note(&mut self, desired: &Desired, speaks: bool) {
        let ports = desired.publications.values();
        let addrs: BTreeSet<_> = ports
            .filter(|port| port.source == Source::Docker)
            .map(|port| port.to)
            .collect();
        // Not those whose interface has just gone: the engine may be gone with it, and not have been missed yet.
        if speaks {
            self.doors.retain(|addr, _| addrs.contains(addr));
        }
        for addr in addrs {
            let Some(endpoint) = desired.endpoints.get(&addr) else {
                continue;
            };
            if speaks || !self.doors.contains_key(&addr) {
                self.doors.insert(addr, endpoint.port);
            }
        }
    }

    /// Those that went.
    pub(super) fn gone(&self) -> &BTreeSet<IpAddr> {
        &self.gone
    }
}
