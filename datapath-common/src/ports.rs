//! Which source ports masquerade tries when the flow's own is taken.

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
/// of them are is below 0.2 %.
pub const MAX_TRIES: u32 = 16;

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

    /// The port that a random number chooses: each is as likely as any other, save for a bias below one in
    /// 65,536 (RFC 6056, 3.3.1: unpredictable to who does not see it).
    #[must_use]
    #[inline(always)]
    pub const fn candidate(&self, random: u32) -> u16 {
        // Multiply and shift in place of a remainder: no division, and it never leaves the range.
        let offset = ((random as u64 * self.len() as u64) >> 32) as u32;
        (self.first as u32 + offset) as u16
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_ends_are_reached() {
        let range = PortRange::new(1000, 1003).unwrap();
        assert_eq!(range.candidate(0), 1000);
        assert_eq!(range.candidate(u32::MAX), 1003);
        let one = PortRange::new(65_535, 65_535).unwrap();
        assert_eq!(one.candidate(u32::MAX), 65_535);
    }

    #[test]
    fn empty_ranges_are_refused() {
        assert_eq!(PortRange::new(0, 10), None);
        assert_eq!(PortRange::new(11, 10), None);
    }

    proptest! {
        #[test]
        fn a_candidate_lies_in_the_range(first in 1u16.., span: u16, random: u32) {
            let last = first.saturating_add(span);
            let range = PortRange::new(first, last).unwrap();
            let port = range.candidate(random);
            prop_assert!((first..=last).contains(&port));
        }
    }
}
