//! Where packets go without the stack: the endpoints behind the bridges, and the next hops outside.

use crate::family::Family;

/// How many endpoints are known, in each family.
pub const MAX_ENDPOINTS: u32 = 16_384;
/// How many next hops are known, in each family.
pub const MAX_HOPS: u32 = 65_536;

/// How long a next hop counts, in seconds. Then one packet takes the way through the stack, whose routing,
/// neighbour table and firewall speak anew: nothing stays wrong for longer, even with no service to say so.
pub const HOP_LIFETIME: u64 = 2;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// How many uplinks may have a program at the driver's level.
pub const MAX_CARDS: usize = 8;

/// An uplink's own Ethernet address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// The uplink; 0 for an unused place.
    pub ifindex: u32,
    /// Its address.
    pub mac: Mac,
    /// Always 0.
    pub zero: u16,
}

/// The addresses of all uplinks that have a program at the driver's level, where the kernel has not yet compared
/// the frame's with them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cards {
    /// The uplinks; those not in use are zero.
    pub cards: [Card; MAX_CARDS],
}

impl Cards {
    /// The address of an uplink, if it is one of them.
    #[must_use]
    #[inline(always)]
    pub fn mac(&self, ifindex: u32) -> Option<Mac> {
        for card in &self.cards {
            if card.ifindex == ifindex {
                return Some(card.mac);
            }
        }
        None
    }
}

/// An endpoint behind a bridge's port, found by its address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The host's side of its veth pair.
    pub port: u32,
    /// The endpoint's own Ethernet address.
    pub mac: Mac,
    /// The bridge's: what it addresses frames to that are not for a neighbour.
    pub gateway: Mac,
}

impl Endpoint {
    /// The addresses of a frame to it, destination first, as from its gateway.
    #[must_use]
    #[inline(always)]
    pub const fn frame(&self) -> [Mac; 2] {
        [self.mac, self.gateway]
    }
}

/// Who sends, and to whom: the next hop may differ by either.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopKey<F: Family> {
    /// The endpoint.
    pub src: F::Addr,
    /// The address outside.
    pub dst: F::Addr,
}

/// The next hop for an endpoint's packets to one address outside.
///
/// It is noted in two steps: an endpoint's port says that the packet came as it should, and the uplink
/// how it left. An established flow keeps its own copy ([`crate::conntrack::Flow::hop`]), and so do flows towards an
/// endpoint: there `uplink` is the endpoint's port, and `port` and `gateway` say nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// When it was last seen at the uplink; 0 before that. Nanoseconds of `CLOCK_MONOTONIC`.
    pub seen: u64,
    /// Generation of [`crate::settings::slots::WAYS`] when the port was noted.
    pub generation: u32,
    /// The port that the endpoint sends by.
    pub port: u32,
    /// The uplink; 0 while it is not known.
    pub uplink: u32,
    /// Addresses of the frame at the uplink, destination first.
    pub frame: [Mac; 2],
    /// What the endpoint addresses its frames to.
    pub gateway: Mac,
    /// Of a flow's next hop: the MTU of the interface there, or the most that fits here. Else 0.
    pub mtu: u16,
}

impl Hop {
    /// All zero: a place to fill.
    pub const NONE: Self = Self {
        seen: 0,
        generation: 0,
        port: 0,
        uplink: 0,
        frame: [[0; 6]; 2],
        gateway: [0; 6],
        mtu: 0,
    };

    /// Whether the uplink was seen lately.
    #[must_use]
    #[inline(always)]
    pub const fn is_fresh(&self, now: u64) -> bool {
        now.saturating_sub(self.seen) < HOP_LIFETIME * crate::conntrack::timeouts::SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::timeouts::SECOND;

    #[test]
    fn a_hop_counts_for_its_lifetime_and_not_before_it_was_seen() {
        let hop = Hop {
            seen: 100 * SECOND,
            ..Hop::NONE
        };
        assert!(hop.is_fresh(100 * SECOND));
        assert!(hop.is_fresh((100 + HOP_LIFETIME) * SECOND - 1));
        assert!(!hop.is_fresh((100 + HOP_LIFETIME) * SECOND));
        assert!(!Hop::NONE.is_fresh(100 * SECOND));
    }
}
