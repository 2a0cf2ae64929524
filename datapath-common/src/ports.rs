//! Which source ports masquerade tries when the flow's own is taken.

use crate::proto;

/// A range of ports, both ends included.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port, at least `first`.
    pub last: u16,
}

/// How many ports are tried before a new flow is refused. With nine of ten ports taken, the chance that all
/// of them are is below one in 700,000; a range of so many ports is searched to its last (of half as many, where the
/// own port is privileged).
pub const MAX_TRIES: u32 = 128;

/// Ports below this one are privileged: some servers ask for it (RFC 4787, REQ-3a).
const PRIVILEGED: u16 = 1_024;
/// What is tried first where an own port among those is taken. Those below are well-known services' (rlogin and its
/// like never took them: `IPPORT_RESERVED / 2` in BSD's `rresvport`).
const LOW: PortRange = PortRange {
    first: 512,
    last: PRIVILEGED - 1,
};
/// How many of these are tried.
const LOW_TRIES: u32 = MAX_TRIES / 2;

impl PortRange {
    /// What Linux uses for its own outgoing connections (`net.ipv4.ip_local_port_range`).
    pub const DEFAULT: Self = Self {
        first: 32_768,
        last: 60_999,
    };

    /// A range, or `None` when it is empty or holds port 0.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last {
            return None;
        }
        Some(Self { first, last })
    }

    /// How many ports it holds; at least 1, whatever the map's bytes say, so that a remainder is defined.
    #[must_use]
    #[inline(always)]
    pub const fn len(&self) -> u32 {
        (self.last as u32).saturating_sub(self.first as u32) + 1
    }

    /// Never: see [`PortRange::new`].
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// As [`PortRange::candidate`], in place of an own port: where that one is privileged, others that are come first.
    /// An identifier of ICMP is like any other.
    #[must_use]
    #[inline(always)]
    pub const fn in_place_of(&self, own: u16, protocol: u8, random: u32, attempt: u32) -> u16 {
        let has_ports = matches!(protocol, proto::TCP | proto::UDP);
        if has_ports && own < PRIVILEGED && attempt <= LOW_TRIES {
            LOW.candidate(random, attempt)
        } else {
            self.candidate(random, attempt)
        }
    }

    /// The port that is tried at an attempt, on a walk that a random number chooses: where it begins is as
    /// likely as anywhere else, save for a bias below one in 65,536 (RFC 6056, 3.3.1: unpredictable to who does
    /// not see it), and no port comes twice before all have come once.
    #[must_use]
    #[inline(always)]
    pub const fn candidate(&self, random: u32, attempt: u32) -> u16 {
        let len = self.len() as u64;
        // Multiply and shift in place of a remainder, since the low bits choose the stride.
        let start = (random as u64 * len) >> 32;
        let offset = (start + attempt as u64 * stride(random)) % len;
        (self.first as u32 + offset as u32) as u16
    }
}

/// How far apart the ports of a walk are: one of the first primes above every range's length, which have no
/// factor in common with it, so that the walk comes by every port. Several, so that walks that meet part again.
#[inline(always)]
const fn stride(random: u32) -> u64 {
    match random & 7 {
        0 => 65_537,
        1 => 65_539,
        2 => 65_543,
        3 => 65_551,
        4 => 65_557,
        5 => 65_563,
        6 => 65_579,
        _ => 65_581,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_ends_are_reached() {
        let range = PortRange::new(1000, 1003).unwrap();
        assert_eq!(range.candidate(0, 0), 1000);
        assert_eq!(range.candidate(u32::MAX, 0), 1003);
        let one = PortRange::new(65_535, 65_535).unwrap();
        assert_eq!(one.candidate(u32::MAX, 1), 65_535);
    }

    #[test]
    fn empty_ranges_are_refused() {
        assert_eq!(PortRange::new(0, 10), None);
        assert_eq!(PortRange::new(11, 10), None);
    }

    #[test]
    fn a_privileged_port_is_replaced_by_another_first() {
        let range = PortRange::DEFAULT;
        let tried = |own, protocol| {
            (1..MAX_TRIES).map(move |attempt| range.in_place_of(own, protocol, 77, attempt))
        };
        let low = |port| (512..1_024).contains(&port);
        for protocol in [proto::TCP, proto::UDP] {
            assert!(tried(80, protocol).take(64).all(low));
            assert!(tried(80, protocol).skip(64).all(|port| port >= 32_768));
            assert!(tried(1_024, protocol).all(|port| port >= 32_768));
        }
        assert!(tried(80, proto::ICMP).all(|port| port >= 32_768));
    }

    proptest! {
        #[test]
        fn a_candidate_lies_in_the_range(first in 1u16.., span: u16, random: u32, attempt in 0..MAX_TRIES) {
            let last = first.saturating_add(span);
            let range = PortRange::new(first, last).unwrap();
            let port = range.candidate(random, attempt);
            prop_assert!((first..=last).contains(&port));
        }

        #[test]
        fn a_walk_comes_by_every_port_once(first in 1u16..50_000, span in 0u16..3_000, random: u32) {
            let range = PortRange::new(first, first + span).unwrap();
            let walk: std::collections::BTreeSet<_> =
                (0..range.len()).map(|attempt| range.candidate(random, attempt)).collect();
            prop_assert_eq!(walk.len() as u32, range.len());
        }
    }
}
