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
    /// Bumped to end every flow at once. Compared with nothing else.
    pub epoch: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// Cookie of the network namespace that the service serves; 0 while it is not known.
    pub netns: u64,
}

impl Settings {
    /// TCP mappings are endpoint-independent too (RFC 5382, REQ-1).
    pub const INDEPENDENT_TCP: u32 = 1;
    /// UDP mappings are endpoint-independent (RFC 4787, REQ-1).
    pub const INDEPENDENT_UDP: u32 = 2;
    /// ICMP query mappings are endpoint-independent (RFC 5508, REQ-1a).
    pub const INDEPENDENT_ICMP: u32 = 4;

    /// What holds when the configuration file says nothing.
    pub const DEFAULT: Self = Self {
        timeouts: Timeouts::DEFAULT,
        ports: PortRange::DEFAULT,
        flags: Self::INDEPENDENT_UDP | Self::INDEPENDENT_ICMP,
        epoch: 0,
        reserved: 0,
        netns: 0,
    };
}

/// Generations by slot: the bindings' come first (see [`crate::binding::Binding::slot`]), then those of the
/// host's addresses, then the networks'.
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
    /// All of them.
    pub const TOTAL: u32 = NETWORKS + MAX_NETWORKS;
}
