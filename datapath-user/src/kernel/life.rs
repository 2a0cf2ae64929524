//! Whether a flow still means something: the judgement of the programs (`flow/find.rs` there), for those who
//! read the maps from outside.

use datapath_common::{
    conntrack::{Flow, timeouts::Timeouts},
    family::Family,
    settings::slots,
};

use super::tables::Tabled;

/// Which table an entry lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// That of established flows, which nothing evicts from.
    Established,
    /// That of half-open and unanswered flows, which is turned over when it is full.
    Half,
}

impl Tier {
    /// The table's name.
    #[must_use]
    pub const fn map<F: Tabled>(self) -> &'static str {
        match self {
            Self::Established => F::FLOWS,
            Self::Half => F::HALF,
        }
    }
}

/// What it takes to judge, all of one moment.
#[derive(Clone, Debug)]
pub struct Judge {
    /// The timeouts in force.
    pub timeouts: Timeouts,
    /// The generations, by slot.
    pub generations: Vec<u32>,
    /// `CLOCK_MONOTONIC`, in nanoseconds: the clock of the maps.
    pub now: u64,
}

impl Judge {
    /// Whether the binding and the address that a flow depends on are those that it was opened with.
    #[must_use]
    pub fn is_current<F: Family>(&self, flow: &Flow<F>) -> bool {
        self.has_generation(flow.binding, flow.binding_generation)
            && self.has_generation(flow.address, flow.address_generation)
    }

    /// Whether a slot still has the generation that somebody took down.
    #[must_use]
    pub fn has_generation(&self, slot: u32, generation: u32) -> bool {
        slot == slots::NOBODY || self.generations.get(slot as usize) == Some(&generation)
    }

    /// Whether a packet of this direction would find its flow. `partner` looks the other entry up; it is asked
    /// only where that decides.
    pub fn lives<F: Family>(
        &self,
        flow: &Flow<F>,
        tier: Tier,
        partner: impl FnOnce() -> Option<Flow<F>>,
    ) -> bool {
        if !self.is_current(flow) {
            return false;
        }
        let expired = flow.is_expired(&self.timeouts, self.now);
        if !expired && tier == Tier::Established {
            return true;
        }
        partner().is_some_and(|other| {
            other.id == flow.id && (!expired || !other.is_expired(&self.timeouts, self.now))
        })
    }

    /// How long a flow lives on if no packet comes, in nanoseconds.
    #[must_use]
    pub fn remaining<F: Family>(&self, flow: &Flow<F>, partner: &Flow<F>) -> u64 {
        let left = |entry: &Flow<F>| {
            let idle = self.now.saturating_sub(entry.last_seen);
            entry.timeout(&self.timeouts).saturating_sub(idle)
        };
        // It lives as long as either way does.
        left(flow).max(left(partner))
    }
}

#[cfg(test)]
mod tests {
    use datapath_common::{conntrack::timeouts::SECOND, family::V4, proto};

    use super::*;

    const NOW: u64 = 10_000 * SECOND;

    fn judge() -> Judge {
        Judge {
            timeouts: Timeouts::DEFAULT,
            generations: vec![0, 7, 8],
            now: NOW,
        }
    }

    /// A UDP flow, seen some seconds ago.
    fn seen(seconds: u64) -> Flow<V4> {
        Flow {
            protocol: proto::UDP,
            id: 5,
            last_seen: NOW - seconds * SECOND,
            ..Flow::NONE
        }
    }

    #[test]
    fn idle_in_both_directions_is_over() {
        let idle =
            |own, other: Option<u64>, tier| judge().lives(&seen(own), tier, || other.map(seen));
        for tier in [Tier::Established, Tier::Half] {
            assert!(idle(119, Some(500), tier), "{tier:?}: this way is in use");
            assert!(idle(120, Some(119), tier), "{tier:?}: the other way is");
            assert!(!idle(120, Some(120), tier), "{tier:?}: neither is");
            assert!(!idle(120, None, tier), "{tier:?}: no other way");
        }
    }

    #[test]
    fn a_half_open_flow_without_its_partner_is_over() {
        assert!(!judge().lives(&seen(0), Tier::Half, || None));
        assert!(judge().lives(&seen(0), Tier::Established, || None));
        let stranger = Flow { id: 6, ..seen(0) };
        assert!(!judge().lives(&seen(0), Tier::Half, || Some(stranger)));
    }

    #[test]
    fn what_depends_on_a_former_generation_is_over() {
        let bound = |slot, generation| Flow {
            binding: slot,
            binding_generation: generation,
            ..seen(0)
        };
        for (slot, generation, lives) in [(1, 7, true), (1, 6, false), (2, 8, true), (9, 0, false)]
        {
            let flow = bound(slot, generation);
            assert_eq!(
                judge().lives(&flow, Tier::Half, || Some(flow)),
                lives,
                "{slot} {generation}"
            );
        }
    }
}
