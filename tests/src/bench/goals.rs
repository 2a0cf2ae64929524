//! What the project promises, beside what was measured.

use super::{
    contender::Contender::{
        Datapath, DatapathXdp, DockerProxy, IptablesLegacy, IptablesNft, NftablesMap, Redirect,
        Routed,
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

/// All of them.
pub(super) fn goals(results: &Results) -> Vec<Goal> {
    let least = |bound| Asked::Least(bound, "×");
    let most = |bound| Asked::Most(bound, "×");
    // Times of one and the other, where less is better, or how much of it each did.
    let driver = |name, ours, theirs| {
        Some(
            results.median("driver", name, theirs, None)?
                / results.median("driver", name, ours, None)?,
        )
    };
    let users = |name, theirs| {
        Some(
            results.median("users", name, Datapath, None)?
                / results.median("users", name, theirs, None)?,
        )
    };
    let ports = |name, contender, at| results.median("ports", name, contender, Some(at));
    let flows = |name, at| results.median("flows", name, Datapath, Some(at));
    let many = u64::from(ports::SIZES[ports::SIZES.len() - 1]);
    let most_flows = u64::from(flows::SIZES[flows::SIZES.len() - 1]);
    let goal = |says, asked, measured| Goal {
        says,
        asked,
        measured,
    };
    vec![
        goal(
            "packets inward, against the nftables map",
            least(2.8),
            driver("inward", Datapath, NftablesMap),
        ),
        goal(
            "packets inward, against iptables-nft",
            least(3.3),
            driver("inward", Datapath, IptablesNft),
        ),
        goal(
            "packets inward in XDP, against the nftables map",
            least(3.5),
            driver("inward", DatapathXdp, NftablesMap),
        ),
        goal(
            "a packet inward in XDP costs, against a bare XDP redirect",
            most(1.25),
            driver("inward", Redirect, DatapathXdp),
        ),
        goal(
            "packets outward, against iptables-legacy",
            least(2.5),
            driver("outward", Datapath, IptablesLegacy),
        ),
        goal(
            "packets outward, against the nftables map",
            least(2.5),
            driver("outward", Datapath, NftablesMap),
        ),
        goal(
            "new connections, against iptables-legacy",
            least(1.25),
            users("inward: new connections", IptablesLegacy),
        ),
        goal(
            "new connections, against docker-proxy",
            least(2.7),
            users("inward: new connections", DockerProxy),
        ),
        goal(
            "UDP requests, against iptables-legacy",
            least(1.25),
            users("inward: UDP requests", IptablesLegacy),
        ),
        goal(
            "TCP stream, against routing without NAT",
            least(1.0),
            users("inward: TCP stream", Routed),
        ),
        goal(
            "UDP 99th percentile, against routing without NAT",
            most(1.0),
            users("inward, latency: UDP p99", Routed),
        ),
        goal(
            "a packet at 10,000 published ports, against one port",
            most(1.1),
            ratio(
                ports("packets of a flow", Datapath, many),
                ports("packets of a flow", Datapath, 1),
            ),
        ),
        goal(
            "new connections at 10,000 published ports, against one port",
            least(0.9),
            ratio(
                ports("new connections", Datapath, many),
                ports("new connections", Datapath, 1),
            ),
        ),
        goal(
            "a packet at 1,048,576 live flows, of one of them, against one flow",
            most(1.1),
            ratio(
                flows("packets of one of them", most_flows),
                flows("packets of one of them", 1),
            ),
        ),
        goal(
            "a packet at 1,048,576 live flows, of all in turn, against one flow",
            most(1.1),
            ratio(
                flows("packets of all in turn", most_flows),
                flows("packets of all in turn", 1),
            ),
        ),
        goal(
            "10,000 ports published in one request",
            Asked::Most(1000.0, "ms"),
            ports("publish all in one go", Datapath, many),
        ),
        goal(
            "kernel memory of 10,000 published ports",
            Asked::Most(2048.0, "KiB"),
            ports("memory of all", Datapath, many),
        ),
        goal(
            "a packet of the host's own that arrives",
            Asked::Most(30.0, "ns"),
            results.median(
                "host",
                "a segment of the host's own that arrives",
                Datapath,
                None,
            ),
        ),
        goal(
            "a packet of the host's own that leaves",
            Asked::Most(30.0, "ns"),
            results.median(
                "host",
                "a segment of the host's own that leaves",
                Datapath,
                None,
            ),
        ),
    ]
}

fn ratio(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? / other?)
}
