//! What the world should look like, as plain data: no Docker, no netlink and no map types in here.
//!
//! Sources produce these values, the reconciler compares them, and the kernel layer turns them into map
//! entries. Everything is ordered, so that sets of it compare and print the same way every time.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

pub use datapath_common::binding::Source;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use crate::allow::AllowList;

/// A transport protocol that ports can be published for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Where a publication listens: one port of one address, or of every address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listen {
    /// The address; unspecified (0.0.0.0 or ::) for every address of that family.
    pub addr: IpAddr,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// A published port and where it leads. Ranges are one of these for each port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Publication {
    /// Where it listens.
    pub listen: Listen,
    /// The endpoint's address: of the same family as `listen.addr`, or IPv4 behind an IPv6 port.
    pub to: IpAddr,
    /// The endpoint's port.
    pub to_port: u16,
    /// The sources that it answers to, of the family of `listen.addr`; `None` for everybody.
    pub allow: Option<AllowList>,
    /// Who wants it.
    pub source: Source,
    /// Who wants it, in words: a container's short id, or the source's name.
    pub owner: String,
}

/// A managed network: a bridge and the subnets behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// The bridge's interface name.
    pub bridge: String,
    /// The subnets, IPv4 and IPv6.
    pub subnets: Vec<IpNet>,
    /// Packets that leave by an uplink take the host's address.
    pub masquerade: bool,
    /// Reaches nobody outside, and nobody outside reaches it.
    pub internal: bool,
    /// Endpoints of the bridge may talk to each other.
    pub icc: bool,
    /// Endpoints may be reached from outside by their own address.
    pub routed: bool,
    /// ICMP from outside may reach them by it.
    pub icmp: bool,
}

/// What the configuration, the API and Docker want, before it is compared with the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The networks, by bridge.
    pub networks: Vec<Network>,
    /// The published ports, by where they listen.
    pub publications: BTreeMap<Listen, Publication>,
    /// Docker has not spoken yet.
    pub partial: bool,
    /// What two sources want that only one can have, a line each.
    pub conflicts: Vec<String>,
}

/// The unspecified address of IPv6, or of IPv4: every address of the host, to listen on.
#[must_use]
pub const fn every_address(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}

impl Publication {
    /// Where it leads.
    #[must_use]
    pub const fn target(&self) -> SocketAddr {
        SocketAddr::new(self.to, self.to_port)
    }
}

impl Protocol {
    /// The protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => datapath_common::proto::TCP,
            Self::Udp => datapath_common::proto::UDP,
        }
    }

    /// The protocol of a number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            datapath_common::proto::TCP => Some(Self::Tcp),
            datapath_common::proto::UDP => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addr = SocketAddr::new(self.addr, self.port);
        write!(f, "{addr}/{}", self.protocol)
    }
}
