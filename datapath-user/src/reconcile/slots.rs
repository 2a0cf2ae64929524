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

impl SlotsOfBoth {
    pub(super) fn new(used: impl IntoIterator<Item = u32>) -> Self {
        let mut both = Self {
            bindings: Slots::new(ranges::BINDINGS..ranges::ADDRESSES),
            addresses: Slots::new(ranges::ADDRESSES..ranges::NETWORKS),
        };
        for slot in used {
            both.bindings.note(slot);
            both.addresses.note(slot);
        }
        both
    }
}

/// The slots of one kind. One that was in use in the beginning is not given out, whatever became of its owner.
pub(super) struct Slots {
    range: Range<u32>,
    used: Vec<bool>,
    next: u32,
}

impl Slots {
    fn new(range: Range<u32>) -> Self {
        Self {
            used: vec![false; range.len()],
            next: range.start,
            range,
        }
    }

    /// Somebody has this one.
    fn note(&mut self, slot: u32) {
        let place = slot.checked_sub(self.range.start);
        if let Some(used) = place.and_then(|place| self.used.get_mut(place as usize)) {
            *used = true;
        }
    }

    /// A slot that nobody has.
    pub(super) fn take(&mut self) -> Result<u32> {
        let free = (self.next..self.range.end)
            .find(|slot| self.used.get((slot - self.range.start) as usize) == Some(&false));
        self.next = free.map_or(self.range.end, |slot| slot + 1);
        if let Some(slot) = free {
            return Ok(slot);
        }
        let size = self.range.end - self.range.start;
        Err(anyhow::anyhow!("all {size} places are taken")).context("map full")
    }
}

/// The generations, which nobody but the service changes: it knows what each of them has to be.
#[derive(Debug)]
pub struct Generations {
    tables: Tables,
    map: Batched<u32, u32>,
    known: Vec<u32>,
}

impl Generations {
    /// Reads them.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn read(tables: &Tables) -> Result<Self> {
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
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn retire(&mut self, used: impl IntoIterator<Item = u32>) -> Result<()> {
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
    ///
    /// # Errors
    /// When the map cannot be read or written.
    pub fn heal(&mut self) -> Result<usize> {
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
    fn a_slot_in_use_is_never_given_again() {
        let mut slots = Slots::new(1..5);
        [1, 3, 0, 7].into_iter().for_each(|slot| slots.note(slot));
        assert_eq!(slots.take().unwrap(), 2);
        assert_eq!(slots.take().unwrap(), 4);
        assert!(slots.take().is_err());
    }
}
