//! Slots of generations: who has which, and the raising that ends flows.

use std::{collections::BTreeSet, ops::Range};

use anyhow::{Context as _, Result};
use datapath_common::settings::slots as ranges;

use crate::kernel::{batch::Batched, tables::Tables};

/// The slots of bindings and of addresses: both families share them.
pub(super) struct SlotsOfBoth {
    pub(super) bindings: Slots,
    pub(super) addresses: Slots,
}

impl Default for SlotsOfBoth {
    fn default() -> Self {
        Self {
            bindings: Slots::new(ranges::BINDINGS..ranges::ADDRESSES),
            addresses: Slots::new(ranges::ADDRESSES..ranges::NETWORKS),
        }
    }
}

impl SlotsOfBoth {
    /// These are in use, and no others.
    pub(super) fn fill(&mut self, used: impl IntoIterator<Item = u32>) {
        self.bindings.used.fill(false);
        self.addresses.used.fill(false);
        for slot in used {
            self.note(slot, true);
        }
    }

    /// Nobody has this one any more.
    pub(super) fn free(&mut self, slot: u32) {
        self.note(slot, false);
    }

    fn note(&mut self, slot: u32, used: bool) {
        self.bindings.note(slot, used);
        self.addresses.note(slot, used);
    }
}

/// The slots of one kind. One that became free is given out again as late as can be.
pub(super) struct Slots {
    range: Range<u32>,
    used: Vec<bool>,
    /// Where the next one is looked for.
    next: usize,
}

impl Slots {
    fn new(range: Range<u32>) -> Self {
        Self {
            used: vec![false; range.len()],
            next: 0,
            range,
        }
    }

    fn note(&mut self, slot: u32, used: bool) {
        let place = slot.checked_sub(self.range.start);
        if let Some(place) = place.and_then(|place| self.used.get_mut(place as usize)) {
            *place = used;
        }
    }

    /// A slot that nobody has.
    pub(super) fn take(&mut self) -> Result<u32> {
        let size = self.used.len();
        let mut places = (self.next..size).chain(0..self.next);
        let free = places.find(|place| self.used.get(*place) == Some(&false));
        let Some(place) = free else {
            return Err(anyhow::anyhow!("all {size} places are taken")).context("map full");
        };
        self.next = (place + 1) % size;
        let slot = self.range.start + u32::try_from(place)?;
        self.note(slot, true);
        Ok(slot)
    }
}

/// The generations, which nobody but the service changes: it knows what each of them has to be.
#[derive(Debug)]
pub(super) struct Generations {
    tables: Tables,
    map: Batched<u32, u32>,
    known: Vec<u32>,
}

impl Generations {
    /// Reads them.
    pub(super) fn read(tables: &Tables) -> Result<Self> {
        Ok(Self {
            tables: tables.clone(),
            map: tables.generations()?,
            known: tables.read_generations()?,
        })
    }

    /// Raises a slot's generation: every flow that bears the old one has ended.
    pub(super) fn raise(&mut self, slot: u32) -> Result<()> {
        let known = self
            .known
            .get_mut(slot as usize)
            .with_context(|| format!("no slot {slot}"))?;
        let raised = known.wrapping_add(1);
        self.map.put(&[slot], &[raised])?;
        *known = raised;
        Ok(())
    }

    /// Raises those of all slots that nobody has: what a service that was killed withdrew, and had no time to end,
    /// ends here. Where nobody has any, no service was there before.
    pub(super) fn retire(&mut self, used: impl IntoIterator<Item = u32>) -> Result<()> {
        let used: BTreeSet<u32> = used.into_iter().collect();
        if used.is_empty() {
            return Ok(());
        }
        let slots: Vec<u32> = (ranges::BINDINGS..ranges::NETWORKS)
            .filter(|slot| !used.contains(slot))
            .collect();
        for slot in &slots {
            if let Some(known) = self.known.get_mut(*slot as usize) {
                *known = known.wrapping_add(1);
            }
        }
        self.write(&slots)
    }

    /// Puts those right that somebody else changed, and says how many.
    pub(super) fn heal(&mut self) -> Result<usize> {
        let found = self.tables.read_generations()?;
        let wrong: Vec<u32> = (0..)
            .zip(self.known.iter().zip(&found))
            .filter(|(_, (known, found))| known != found)
            .map(|(slot, _)| slot)
            .collect();
        self.write(&wrong)?;
        Ok(wrong.len())
    }

    fn write(&self, slots: &[u32]) -> Result<()> {
        let values: Vec<u32> = slots
            .iter()
            .filter_map(|slot| self.known.get(*slot as usize).copied())
            .collect();
        self.map.put(slots, &values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_in_use_is_never_given_again_and_one_that_is_free_as_late_as_can_be() {
        let mut slots = Slots::new(1..6);
        for slot in [1, 3, 0, 7] {
            slots.note(slot, true);
        }
        assert_eq!(slots.take().unwrap(), 2);
        slots.note(2, false);
        assert_eq!(slots.take().unwrap(), 4);
        assert_eq!(slots.take().unwrap(), 5);
        assert_eq!(slots.take().unwrap(), 2);
        assert!(slots.take().is_err());
        slots.note(3, false);
        assert_eq!(slots.take().unwrap(), 3);
    }
}
