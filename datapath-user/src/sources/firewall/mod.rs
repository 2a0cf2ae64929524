//! Whether rules of the host's own stand where a forwarded packet passes: then no packet may go past them.

mod nftables;
mod xtables;

use std::fmt;

use netlink_sys::Socket;

use nftables::Chains;

/// The hooks that a forwarded packet passes, in the numbers of include/uapi/linux/netfilter.h: prerouting,
/// forward, postrouting.
const PASSED: [u32; 3] = [PREROUTING, 2, 4];
/// The first of them.
const PREROUTING: u32 = 0;

/// A rule, or a policy, in a forwarded packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle(String);

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the host's own rules do to what datapath would send on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What stands in a forwarded packet's way, if anything does. What cannot be read counts as something.
    pub obstacle: Option<Obstacle>,
    /// The host's own NAT translates what arrives. What cannot be read does not.
    pub translates: bool,
}

/// What would differ if a rule had been changed: cheap to get, to be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    generation: Option<u32>,
    tables: Vec<xtables::Summary>,
}

/// The host's packet filters, in the network namespace that it was opened in.
pub struct Firewall {
    /// `None` in a kernel without nf_tables.
    nftables: Option<Socket>,
}

impl Firewall {
    /// Opens it.
    #[must_use]
    pub fn open() -> Self {
        Self {
            nftables: nftables::open().ok(),
        }
    }

    /// The stamp of now.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp {
            generation: self.nftables.as_ref().and_then(nftables::generation),
            tables: xtables::summaries(),
        }
    }

    /// Looks at them.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let chains = match &self.nftables {
            Some(socket) => nftables::chains(socket),
            None => Ok(Chains::default()),
        };
        let translates = chains.as_ref().is_ok_and(|chains| chains.translates);
        let obstacle = chains.and_then(|chains| match chains.obstacle {
            Some(chain) => Ok(Some(chain)),
            None => xtables::obstacle(),
        });
        Rules {
            obstacle: obstacle.map_or_else(
                |error| Some(Obstacle(format!("a rule that cannot be read ({error})"))),
                |found| found.map(Obstacle),
            ),
            translates: translates || xtables::translates(),
        }
    }
}
