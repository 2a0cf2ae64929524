//! Whether rules of the host's own stand where a forwarded packet passes: then no packet may go past them.

mod nftables;
mod xtables;

use std::fmt;

use netlink_sys::Socket;

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

    /// Whether the host's own NAT translates what arrives, by a rule. What cannot be read does not.
    #[must_use]
    pub fn translates(&self) -> bool {
        let nftables = self.nftables.as_ref().map(nftables::translates);
        nftables.is_some_and(|found| found.unwrap_or(false)) || xtables::translates()
    }

    /// What stands in a forwarded packet's way, if anything does. What cannot be read counts as something.
    #[must_use]
    pub fn obstacle(&self) -> Option<Obstacle> {
        let found = self.nftables.as_ref().map_or(Ok(None), nftables::obstacle);
        match found.and_then(|found| Ok(found.or(xtables::obstacle()?))) {
            Ok(found) => found.map(Obstacle),
            Err(error) => Some(Obstacle(format!(
                "the host's rules cannot be read: {error}"
            ))),
        }
    }
}
