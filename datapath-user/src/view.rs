//! What the pinned maps say, as plain data: ports, flows, counters, map fill and attachments.
//!
//! The kernel layer fills these in and the command line prints them; neither needs to know the other, and
//! neither a running service.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use datapath_common::{binding::BindingStats, conntrack::tcp};

use crate::model::Publication;

/// A published port as the maps hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Where it listens, where it leads, who asked.
    pub publication: Publication,
    /// What went through it, all CPUs together.
    pub stats: BindingStats,
    /// Its slot: flows that came by it carry the same.
    pub slot: u32,
}

/// A flow that is alive: neither expired nor ended by a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// Protocol number.
    pub protocol: u8,
    /// TCP's state; `None` for the others.
    pub state: Option<tcp::State>,
    /// The direction that opened the flow, as its packets are before they are translated.
    pub original: Half,
    /// The other direction, likewise.
    pub reply: Half,
    /// A packet went the other way too.
    pub answered: bool,
    /// It lives in the table of established flows, which a flood of new ones cannot turn over.
    pub assured: bool,
    /// How its packets are translated.
    pub nat: Nat,
    /// Slot of the binding that it came by, or 0.
    pub binding: u32,
    /// How long it lives on if no packet comes.
    pub remaining: Duration,
    /// Since when it exists.
    pub age: Duration,
}

/// How a flow's packets are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Nat {
    /// From an endpoint: the source becomes the host's (`conntrack --src-nat`).
    Masquerade,
    /// To a published port: the destination becomes the endpoint's (`conntrack --dst-nat`).
    Published,
    /// From an endpoint to a published port: both.
    Hairpin,
    /// Of a network that keeps its own addresses: neither.
    Routed,
}

impl Nat {
    /// The name in tables, JSON and filters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Masquerade => "masquerade",
            Self::Published => "published",
            Self::Hairpin => "hairpin",
            Self::Routed => "routed",
        }
    }
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Half {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port; of an ICMP query the identifier, on the side of the asker.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Packets that went this way.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
}

impl Half {
    /// Where the packets come from.
    #[must_use]
    pub fn source(&self) -> SocketAddr {
        SocketAddr::new(self.src, self.sport)
    }

    /// Where they go.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.dst, self.dport)
    }
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// The map's name.
    pub name: &'static str,
    /// How many entries it holds.
    pub used: u32,
    /// How many it can hold.
    pub max: u32,
}

/// A program and the place that it is attached to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// The program's name.
    pub program: String,
    /// The interface (or cgroup) that it is attached to; of one that is gone, or in another network
    /// namespace, its index.
    pub target: String,
    /// The hook, in the words of `tc`, `ip` and `bpftool`: `tcx ingress`, `xdp native`, `cgroup connect4`.
    pub hook: String,
}
