//! A flow's entry. A flow has two, one for each direction, keyed by the tuple as it is seen on the wire
//! there; each holds the whole rewrite for its direction.

pub mod tcp;
pub mod timeouts;

use self::{tcp::State, timeouts::Timeouts};
use crate::{
    family::Family,
    proto,
    settings::slots,
    tuple::{Direction, Endpoints, Tuple},
    way::Hop,
};

/// One direction of a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<F: Family> {
    /// What the packet's addresses and ports become.
    pub to: Endpoints<F>,
    /// Protocol number, as in the key.
    pub protocol: u8,
    /// A [`State`].
    pub state: u8,
    /// Bits of [`Flow::ORIGINAL`] and its fellows.
    pub flags: u8,
    /// Always 0.
    pub zero: u8,
    /// The same number in both entries of a flow and, in practice, in no other: tells whether the partner
    /// found by its tuple is the partner still.
    pub id: u64,
    /// When a packet last went this way.
    pub last_seen: u64,
    /// When the flow was opened.
    pub created: u64,
    /// Packets that went this way.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
    /// Generation slot of the binding that the flow came by, or [`slots::NOBODY`].
    pub binding: u32,
    /// That slot's generation when the flow was opened. Of a flow that came by no binding: the uplink whose address it
    /// shows.
    pub binding_generation: u32,
    /// Generation slot of the host's address that the flow uses, or [`slots::NOBODY`].
    pub address: u32,
    /// That slot's generation when the flow was opened.
    pub address_generation: u32,
    /// TCP: the acknowledgment number that this direction sent last. A reset from the other side counts
    /// only when it stands exactly there (RFC 5961, 3.2).
    pub acknowledged: u32,
    /// When the endpoint-independent mapping wants to be pushed forward next, in seconds of
    /// `CLOCK_MONOTONIC`; 0 for a flow without one. In the answers' entry of a flow that has no mapping: see
    /// [`Flow::way_out`].
    pub mapping_due: u32,
    /// Where packets of this direction go without the stack, and until when that holds without being looked at again.
    pub hop: Hop,
}

impl<F: Family> Flow<F> {
    /// This direction is the one that opened the flow.
    pub const ORIGINAL: u8 = 1;
    /// The flow came to a published port (else it was masqueraded).
    pub const PUBLISHED: u8 = 2;
    /// A packet went the other way too.
    pub const ANSWERED: u8 = 4;
    /// Both directions are seen as coming from an endpoint (a container's own way to a published port).
    pub const HAIRPIN: u8 = 8;
    /// The network keeps its own addresses: nothing is rewritten, the answers are let in.
    pub const ROUTED: u8 = 16;

    /// A reset passed that its receiver may have taken for good ([`tcp::may_reset`]). Unless something follows it, the
    /// flow has no more time than one that was reset for certain.
    pub const DOUBTED: u8 = 32;

    /// All zero: a place to fill.
    pub const NONE: Self = Self {
        to: Endpoints::NONE,
        protocol: 0,
        state: 0,
        flags: 0,
        zero: 0,
        id: 0,
        last_seen: 0,
        created: 0,
        packets: 0,
        bytes: 0,
        binding: slots::NOBODY,
        binding_generation: 0,
        address: slots::NOBODY,
        address_generation: 0,
        acknowledged: 0,
        mapping_due: 0,
        hop: Hop::NONE,
    };

    /// Of the answers' entry of a flow from outside whose endpoint answers to an address of the host (between the
    /// families, [`crate::nat64`], and with clients that have a link-local address): the interface that its first packet
    /// came by, where the answers leave.
    #[must_use]
    #[inline(always)]
    pub const fn way_out(&self) -> u32 {
        self.mapping_due
    }

    /// Whether all of `flags` are set.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The key of the flow's other entry: what an answer to the rewritten packet carries.
    #[must_use]
    #[inline(always)]
    pub const fn partner(&self, direction: Direction) -> Tuple<F> {
        let direction = self.partner_direction(direction);
        Tuple::new(&self.to.reversed(), self.protocol, direction)
    }

    /// The direction in that key, for an entry of this one.
    #[must_use]
    #[inline(always)]
    pub const fn partner_direction(&self, direction: Direction) -> Direction {
        if self.has(Self::HAIRPIN) {
            direction
        } else {
            direction.opposite()
        }
    }

    /// Whether the flow shows an address of another uplink than this one, by which a packet from its endpoint leaves
    /// now. Such a flow is over: its answers would not come back (net/netfilter/nf_nat_masquerade.c has it so too).
    #[must_use]
    #[inline(always)]
    pub const fn has_moved(&self, direction: Direction, uplink: u32) -> bool {
        matches!(direction, Direction::FromEndpoint)
            && self.binding == slots::NOBODY
            && self.address != slots::NOBODY
            && self.binding_generation != uplink
    }

    /// How long the flow outlives its last packet, in nanoseconds.
    #[must_use]
    #[inline(always)]
    pub fn timeout(&self, timeouts: &Timeouts) -> u64 {
        match self.protocol {
            proto::TCP => {
                let timeout = timeouts.tcp(State::from_raw(self.state));
                if self.has(Self::DOUBTED) {
                    timeout.min(timeouts.tcp_close)
                } else {
                    timeout
                }
            }
            proto::UDP if self.has(Self::ANSWERED) => timeouts.udp_stream,
            proto::UDP => timeouts.udp,
            _ => timeouts.icmp,
        }
    }

    /// Whether the flow, as far as this direction knows, has been idle for too long.
    #[must_use]
    #[inline(always)]
    pub fn is_expired(&self, timeouts: &Timeouts, now: u64) -> bool {
        now.saturating_sub(self.last_seen) >= self.timeout(timeouts)
    }
}
