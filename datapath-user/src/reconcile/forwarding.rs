//! How packets of flows are sent on: past the stack, or through it.

use std::{fmt, fs};

use serde::{Deserialize, Serialize};

use super::Desired;
use crate::{
    config::Forwarding,
    sources::firewall::{Obstacle, Rules},
};

/// How packets of one family are sent on, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Past the stack, where the way is known.
    pub fast: bool,
    /// Why.
    pub because: String,
}

/// Whether IPv6 clients reach IPv4 endpoints, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat64 {
    /// They do.
    pub on: bool,
    /// Why.
    pub because: String,
}

/// How packets are sent on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ways {
    /// IPv4.
    pub ipv4: Way,
    /// IPv6.
    pub ipv6: Way,
    /// From one to the other.
    #[serde(default)]
    pub nat64: Nat64,
    /// The host's own NAT translates what arrives: packets of connections that it may have are left to it.
    #[serde(default)]
    pub beside: bool,
    /// The host's rp_filter is strict: packets from outside that belong to no established flow go through the stack.
    #[serde(default)]
    pub source_check: bool,
}

/// What anybody can change at any time, and nobody is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// Whether the kernel forwards, for IPv4 and IPv6.
    forwards: [bool; 2],
    /// Whether it takes a packet only where an answer would leave.
    source_check: bool,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.fast { "fast" } else { "kernel" };
        write!(f, "{way} ({})", self.because)
    }
}

impl fmt::Display for Nat64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.on { "on" } else { "off" };
        write!(f, "{state} ({})", self.because)
    }
}

impl fmt::Display for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ipv4,
            ipv6,
            nat64,
            beside,
            source_check,
        } = self;
        write!(f, "IPv4 {ipv4}, IPv6 {ipv6}, NAT64 {nat64}")?;
        if *beside {
            f.write_str("; older connections are left to the host's own NAT")?;
        }
        if *source_check {
            f.write_str("; flows from outside begin in the stack (rp_filter is strict)")?;
        }
        Ok(())
    }
}

/// Decides it, for both families.
#[must_use]
pub fn decide(
    configured: Forwarding,
    desired: &Desired,
    switches: Switches,
    rules: &Rules,
) -> Ways {
    let obstacle = rules.obstacle.as_ref();
    let way = |forwards: bool| match configured {
        Forwarding::Kernel => way(false, "forwarding = \"kernel\""),
        _ if !forwards => way(false, "this host does not forward"),
        Forwarding::Fast => way(true, "forwarding = \"fast\""),
        Forwarding::Auto => match (obstacle, stack_only(desired)) {
            (Some(obstacle), _) => way(false, &format!("{obstacle} has its say")),
            (None, Some(reason)) => way(false, reason),
            (None, None) => way(true, "no rule stands in the way"),
        },
    };
    let [ipv4, ipv6] = switches.forwards.map(way);
    Ways {
        ipv4,
        ipv6,
        nat64: nat64(configured, desired, obstacle),
        beside: rules.translates,
        source_check: switches.source_check,
    }
}

/// Packets between the families never pass the forward chains, whatever is configured: they have no say where there
/// are none, and are not passed by where there are.
fn nat64(configured: Forwarding, desired: &Desired, obstacle: Option<&Obstacle>) -> Nat64 {
    let (on, because) = match (configured, obstacle) {
        (Forwarding::Fast, _) => (true, "forwarding = \"fast\"".to_owned()),
        (_, Some(obstacle)) => (false, format!("{obstacle} would not be asked")),
        (_, None) if desired.host.fine_rules => (false, FINE_RULES.to_owned()),
        (_, None) => (true, "no rule stands in the way".to_owned()),
    };
    Nat64 { on, because }
}

const FINE_RULES: &str = "rules of policy routing look at ports or types of service";

fn way(fast: bool, because: &str) -> Way {
    Way {
        fast,
        because: because.to_owned(),
    }
}

/// As they stand now.
#[must_use]
pub fn switches(desired: &Desired) -> Switches {
    let value = |of: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{of}/rp_filter");
        let text = fs::read_to_string(path).ok();
        text.and_then(|text| text.trim().parse().ok())
            .unwrap_or(0_u8)
    };
    let all = value("all");
    let mut uplinks = desired.uplinks.iter();
    Switches {
        forwards: ["ipv4", "ipv6"].map(|family| forwards(desired, family)),
        source_check: uplinks.any(|uplink| value(&uplink.name).max(all) == 1),
    }
}

/// Whether the kernel would forward, between the bridges and the uplinks.
fn forwards(desired: &Desired, family: &str) -> bool {
    let bridges = desired.networks.iter().map(|(network, _)| &network.bridge);
    let uplinks = desired.uplinks.iter().map(|link| &link.name);
    bridges.chain(uplinks).all(|interface| {
        let path = format!("/proc/sys/net/{family}/conf/{interface}/forwarding");
        fs::read_to_string(path).is_ok_and(|value| value.trim() != "0")
    })
}

/// What only the stack's own routing knows how to do.
fn stack_only(desired: &Desired) -> Option<&'static str> {
    if desired.host.fine_rules {
        return Some(FINE_RULES);
    }
    if desired.host.routes.iter().any(|route| route.bounded) {
        return Some("a route has an MTU of its own");
    }
    if desired.host.routes.iter().any(|route| route.shared) {
        return Some("a route has several next hops");
    }
    None
}
