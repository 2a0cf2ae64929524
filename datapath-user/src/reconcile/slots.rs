//! Slots of generations: who has which, and the raising that ends flows.

use std::{collections::BTreeSet, ops::Range};

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData};

/// The slots of one kind, those in use known from the maps.
pub(super) struct Slots {
    range: Range<u32>,
    used: BTreeSet<u32>,
    next: u32,
}

impl Slots {
    pub(super) fn new(range: Range<u32>, used: impl IntoIterator<Item = u32>) -> Self {
        let next = range.start;
        Self {
            range,
            used: used.into_iter().collect(),
            next,
        }
    }

    /// A slot that nobody has.
    pub(super) fn take(&mut self) -> Result<u32> {
        while self.next < self.range.end {
            let slot = self.next;
            self.next += 1;
            if self.used.insert(slot) {
                return Ok(slot);
            }
        }
        let size = self.range.end - self.range.start;
        Err(anyhow::anyhow!("all {size} places are taken")).context("map full")
    }
}

/// Raises a slot's generation: every flow that bears the old one has ended.
pub(super) fn raise(generations: &mut Array<MapData, u32>, slot: u32) -> Result<()> {
    let generation = generations.get(&slot, 0)?;
    Ok(generations.set(slot, generation.wrapping_add(1), 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_in_use_is_never_given_again() {
        let mut slots = Slots::new(1..5, [1, 3]);
        assert_eq!(slots.take().unwrap(), 2);
        assert_eq!(slots.take().unwrap(), 4);
        assert!(slots.take().is_err());
    }
}
