//! What the project promises, beside what was measured.

use super::{
    Part,
    contender::Contender::{
        self, Datapath, DatapathXdp, DockerProxy, IptablesLegacy, IptablesNft, NftablesMap,
        Redirect, Routed,
    },
    flows, ports,
    results::Results,
};

/// A promise.
pub(super) struct Goal {
    pub(super) says: &'static str,
    pub(super) asked: Asked,
    /// `None` where it was not measured.
    pub(super) measured: Option<f64>,
}

/// A bound, and the unit after it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    Least(f64, &'static str),
    Most(f64, &'static str),
}

impl Goal {
    pub(super) fn is_met(&self) -> Option<bool> {
        let measured = self.measured?;
        Some(match self.asked {
            Asked::Least(bound, _) => measured >= bound,
            Asked::Most(bound, _) => measured <= bound,
        })
    }
}

/// What is held against the bound.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// How many packets one has handed on at the driver's level while the other handed on one.
    Packets(&'static str, Contender, Contender),
    /// What a packet of the one costs there, as a part of the other's.
    Cost(&'static str, Contender, Contender),
    /// What a user has of datapath, as a part of what one has of the other.
    Users(&'static str, Contender),
    /// What becomes of datapath's figure from one port, or flow, to the most: the part, and the measurement.
    Growth(Part, &'static str),
    /// The figure itself, at the most ports where it has sizes.
    Itself(Part, &'static str),
}

const GOALS: [(&str, Asked, Of); 19] = [
    (
        "packets inward, against the nftables map",
        least(2.8),
        Of::Packets("inward", Datapath, NftablesMap),
    ),
    (
        "packets inward, against iptables-nft",
        least(3.3),
        Of::Packets("inward", Datapath, IptablesNft),
    ),
    (
        "packets inward in XDP, against the nftables map",
        least(3.5),
        Of::Packets("inward", DatapathXdp, NftablesMap),
    ),
    (
        "a packet inward in XDP costs, against a bare XDP redirect",
        most(1.25),
        Of::Cost("inward", DatapathXdp, Redirect),
    ),
    (
        "packets outward, against iptables-legacy",
        least(2.5),
        Of::Packets("outward", Datapath, IptablesLegacy),
    ),
    (
        "packets outward, against the nftables map",
        least(2.5),
        Of::Packets("outward", Datapath, NftablesMap),
    ),
    (
        "new connections, against iptables-legacy",
        least(1.25),
        Of::Users("inward: new connections", IptablesLegacy),
    ),
    (
        "new connections, against docker-proxy",
        least(2.7),
        Of::Users("inward: new connections", DockerProxy),
    ),
    (
        "UDP requests, against iptables-legacy",
        least(1.25),
        Of::Users("inward: UDP requests", IptablesLegacy),
    ),
    (
        "TCP stream, against routing without NAT",
        least(1.0),
        Of::Users("inward: TCP stream", Routed),
    ),
    (
        "UDP 99th percentile, against routing without NAT",
        most(1.0),
        Of::Users("inward, latency: UDP p99", Routed),
    ),
    (
        "a packet at 10,000 published ports, against one port",
        most(1.1),
        Of::Growth(Part::Ports, "packets of a flow"),
    ),
    (
        "new connections at 10,000 published ports, against one port",
        least(0.9),
        Of::Growth(Part::Ports, "new connections"),
    ),
    (
        "a packet at 1,048,576 live flows, of one of them, against one flow",
        most(1.1),
        Of::Growth(Part::Flows, "packets of one of them"),
    ),
    (
        "a packet at 1,048,576 live flows, of all in turn, against one flow",
        most(1.1),
        Of::Growth(Part::Flows, "packets of all in turn"),
    ),
    (
        "10,000 ports published in one request",
        Asked::Most(1000.0, "ms"),
        Of::Itself(Part::Ports, "publish all in one go"),
    ),
    (
        "kernel memory of 10,000 published ports",
        Asked::Most(2048.0, "KiB"),
        Of::Itself(Part::Ports, "memory of all"),
    ),
    (
        "a packet of the host's own that arrives",
        Asked::Most(30.0, "ns"),
        Of::Itself(Part::Host, "a segment of the host's own that arrives"),
    ),
    (
        "a packet of the host's own that leaves",
        Asked::Most(30.0, "ns"),
        Of::Itself(Part::Host, "a segment of the host's own that leaves"),
    ),
];

/// All of them.
pub(super) fn goals(results: &Results) -> Vec<Goal> {
    let goals = GOALS.into_iter();
    goals
        .map(|(says, asked, of)| Goal {
            says,
            asked,
            measured: of.measured(results),
        })
        .collect()
}

const fn least(bound: f64) -> Asked {
    Asked::Least(bound, "×")
}

const fn most(bound: f64) -> Asked {
    Asked::Most(bound, "×")
}

impl Of {
    fn measured(self, results: &Results) -> Option<f64> {
        let median =
            |part: Part, name, contender, at| results.median(part.name(), name, contender, at);
        // Of times at the driver's level less is better, so more packets are less time.
        let (one, other) = match self {
            Self::Packets(name, ours, theirs) => (
                median(Part::Driver, name, theirs, None)?,
                median(Part::Driver, name, ours, None)?,
            ),
            Self::Cost(name, one, other) => (
                median(Part::Driver, name, one, None)?,
                median(Part::Driver, name, other, None)?,
            ),
            Self::Users(name, theirs) => (
                median(Part::Users, name, Datapath, None)?,
                median(Part::Users, name, theirs, None)?,
            ),
            Self::Growth(part, name) => (
                median(part, name, Datapath, most_of(part))?,
                median(part, name, Datapath, Some(1))?,
            ),
            Self::Itself(part, name) => (median(part, name, Datapath, most_of(part))?, 1.0),
        };
        Some(one / other)
    }
}

/// The largest size that a part is measured at, if it is measured at sizes.
const fn most_of(part: Part) -> Option<u64> {
    match part {
        Part::Ports => Some(ports::SIZES[ports::SIZES.len() - 1] as u64),
        Part::Flows => Some(flows::SIZES[flows::SIZES.len() - 1] as u64),
        Part::Driver | Part::Users | Part::Host | Part::Programs | Part::Profile => None,
    }
}
