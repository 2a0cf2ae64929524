//! The networks whose endpoints we serve, and the host's own addresses.

use crate::family::Addr4;

/// A managed network, by the longest prefix that holds an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The bridge's interface index.
    pub bridge: u32,
    /// Bits of [`Network::MASQUERADE`] and its fellows.
    pub flags: u32,
    /// Index of the network's generation.
    pub slot: u32,
    /// An IPv4 network's address on its bridge, which IPv6 clients of its endpoints appear as; 0.0.0.0 where there
    /// is none.
    pub gateway: Addr4,
}

impl Network {
    /// Packets that leave by an uplink take the host's address.
    pub const MASQUERADE: u32 = 1;
    /// Reaches nobody outside, and nobody outside reaches it.
    pub const INTERNAL: u32 = 2;
    /// Endpoints of the bridge may talk to each other.
    pub const ICC: u32 = 4;
    /// Endpoints may be reached from outside by their own address.
    pub const ROUTED: u32 = 8;
    /// ICMP from outside reaches endpoints by their own address.
    pub const ICMP: u32 = 16;

    /// Whether all of `flags` are set.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }
}

/// An address of the host, found by the address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// The interface that carries it.
    pub ifindex: u32,
    /// Index of its generation: raised when the address goes away, which ends the flows that use it.
    pub slot: u32,
    /// Reserved, 0.
    pub flags: u32,
}
