//! What can be changed while the programs run, and the array of generations.

use crate::{binding::MAX_BINDINGS, conntrack::timeouts::Timeouts, ports::PortRange};

/// The one entry of the settings map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long idle flows are kept.
    pub timeouts: Timeouts,
    /// Source ports that masquerade may take when the flow's own is not free.
    pub ports: PortRange,
    /// Bits of [`Settings::INDEPENDENT_TCP`] and its fellows.
    pub flags: u32,
    /// Cookie of the network namespace that the service serves; 0 while it is not known.
    pub netns: u64,
    /// How many flows an endpoint may have opened at a time; 0 for any number.
    pub flows_per_endpoint: u32,
    /// Always 0.
    pub zero: u32,
    /// For how long a count of them is believed, in nanoseconds.
    pub count_patience: u64,
}

impl Settings {
    /// TCP mappings are endpoint-independent too (RFC 5382, REQ-1).
    pub const INDEPENDENT_TCP: u32 = 1;
    /// UDP mappings are endpoint-independent (RFC 4787, REQ-1).
    pub const INDEPENDENT_UDP: u32 = 2;
    /// ICMP query mappings are endpoint-independent (RFC 5508, REQ-1a).
    pub const INDEPENDENT_ICMP: u32 = 4;
    /// IPv4 packets of flows may be sent on past the stack, and so past the host's forward chains.
    pub const FAST4: u32 = 8;
    /// IPv6 packets too.
    pub const FAST6: u32 = 16;
    /// IPv6 packets may be translated to IPv4 and back, past the host's forward chains of both.
    pub const NAT64: u32 = 32;
    /// The host's own NAT translates what arrives: connections that are older than we are may be its.
    pub const BESIDE: u32 = 64;

    /// The host asks of an IPv4 packet whether an answer would leave where it came from: what belongs to no established
    /// flow goes through the stack, which knows.
    pub const SOURCE_CHECK: u32 = 128;

    /// What holds when the configuration file says nothing.
    pub const DEFAULT: Self = Self {
        timeouts: Timeouts::DEFAULT,
        ports: PortRange::DEFAULT,
        flags: Self::INDEPENDENT_UDP | Self::INDEPENDENT_ICMP,
        netns: 0,
        flows_per_endpoint: 0,
        zero: 0,
        count_patience: 0,
    };
}

/// Generations by slot: the bindings' come first (see [`crate::binding::Binding::slot`]), then those of the
/// host's addresses, then the networks', then the one of all that was found out about the way.
pub mod slots {
    use super::MAX_BINDINGS;

    /// Slot 0 belongs to nobody: a flow that depends on nothing names it.
    pub const NOBODY: u32 = 0;
    /// First slot of the bindings.
    pub const BINDINGS: u32 = 1;
    /// First slot of the host's addresses.
    pub const ADDRESSES: u32 = BINDINGS + MAX_BINDINGS;
    /// How many addresses of the host have a generation.
    pub const MAX_ADDRESSES: u32 = 4_096;
    /// First slot of the networks.
    pub const NETWORKS: u32 = ADDRESSES + MAX_ADDRESSES;
    /// How many networks have a generation.
    pub const MAX_NETWORKS: u32 = 4_096;
    /// Raised with every change of links, routes or neighbours: next hops that were found before it count no
    /// more.
    pub const WAYS: u32 = NETWORKS + MAX_NETWORKS;
    /// All of them.
    pub const TOTAL: u32 = WAYS + 1;
}
