//! One family's published ports: those that are wanted, and the bindings that the maps hold.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    maps::{MapData, MapError, PerCpuArray},
    util::nr_cpus,
};
use datapath_common::{
    allow::{EVERYBODY, NOBODY},
    binding::{Binding, BindingKey, BindingStats, OWNER_LEN},
    family::Address as _,
};

use super::{allow::Lists, maps::Shared};
use crate::{
    kernel::tables::{Both, Tabled, Tables},
    model::{Listen, Publication},
};

/// What is wanted of ports.
pub(super) type Wanted<'a, F> = BTreeMap<BindingKey<F>, &'a Publication>;

/// A family's bindings, with their lists and counters.
pub(super) struct Ports<F: Tabled> {
    map: Both<BindingKey<F>, Binding<F>>,
    lists: Lists<F>,
    stats: PerCpuArray<MapData, BindingStats>,
    /// What the map held when it was looked at, and what was changed since.
    held: BTreeMap<BindingKey<F>, Binding<F>>,
}

/// The key of a port, if it is of this family.
pub(super) fn key<F: Tabled>(listen: &Listen) -> Option<BindingKey<F>> {
    let addr = F::Addr::from_ip(listen.addr)?;
    Some(BindingKey::new(addr, listen.port, listen.protocol.number()))
}

impl<F: Tabled> Ports<F> {
    pub(super) fn open(tables: &Tables) -> Result<Self> {
        let mut ports = Self {
            map: tables.bindings::<F>()?,
            lists: Lists::open(tables)?,
            stats: tables.binding_stats()?,
            held: BTreeMap::new(),
        };
        ports.look()?;
        Ok(ports)
    }

    /// Looks at all that the maps hold.
    pub(super) fn look(&mut self) -> Result<()> {
        self.lists.look().context("the allow-lists")?;
        self.held = self.map.0.entries().context("the published ports")?;
        Ok(())
    }

    /// Looks at what the map holds of one port.
    fn look_at(&mut self, key: &BindingKey<F>) -> Result<()> {
        match self.map.1.get(key, 0) {
            Ok(binding) => drop(self.held.insert(*key, binding)),
            Err(MapError::KeyNotFound) => drop(self.held.remove(key)),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The slots of generations that they have.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        self.held.values().map(|binding| binding.slot)
    }

    /// Brings these ports to what is wanted of them, `None` for nothing, and touches no other.
    pub(super) fn change(
        &mut self,
        ports: &BTreeMap<Listen, Option<&Publication>>,
        shared: &mut Shared,
    ) -> Result<()> {
        let mut wanted = Wanted::new();
        let mut others = Vec::new();
        for (listen, publication) in ports {
            let Some(key) = key::<F>(listen) else {
                continue;
            };
            self.look_at(&key)?;
            match publication {
                Some(publication) => drop(wanted.insert(key, *publication)),
                None => others.push(key),
            }
        }
        for key in &others {
            self.withdraw(key, shared)?;
        }
        self.publish(&wanted, shared).map(drop)
    }

    /// Withdraws all that are not wanted, and says how many.
    pub(super) fn withdraw_others(
        &mut self,
        wanted: &Wanted<'_, F>,
        shared: &mut Shared,
    ) -> Result<usize> {
        let held = self.held.keys();
        let others: Vec<_> = held
            .filter(|key| !wanted.contains_key(key))
            .copied()
            .collect();
        for key in &others {
            self.withdraw(key, shared)?;
        }
        Ok(others.len())
    }

    fn withdraw(&mut self, key: &BindingKey<F>, shared: &mut Shared) -> Result<()> {
        let Some(binding) = self.held.get(key).copied() else {
            return Ok(());
        };
        // No new flow first, then the end of the old ones: none slips between.
        self.map.1.remove(key)?;
        self.held.remove(key);
        shared.end(binding.slot)
    }

    /// Publishes these ports, or leads them elsewhere, and says how many it had to. One whose list cannot be written is
    /// closed, and the others are published all the same.
    pub(super) fn publish(&mut self, wanted: &Wanted<'_, F>, shared: &mut Shared) -> Result<usize> {
        let mut published = 0;
        let mut failed = Ok(());
        for (key, publication) in wanted {
            let Some(to) = F::target(publication.to) else {
                continue;
            };
            let old = self.held.get(key).copied();
            let allow = match self.lists.number(publication.allow.as_ref()) {
                Ok(number) => number,
                Err(error) => {
                    failed = Err(error.context(publication.listen.to_string()));
                    NOBODY
                }
            };
            // One that leads elsewhere gets another slot with its new place, in one step: whatever ends this
            // service afterwards, no flow to the former place bears the generation of a slot that is in use.
            let moved = old.is_some_and(|old| (old.to, old.port) != (to, publication.to_port));
            let slot = match old {
                Some(old) if !moved => old.slot,
                Some(old) => shared.slots.bindings.take().unwrap_or(old.slot),
                None => shared.slots.bindings.take()?,
            };
            let binding = Binding {
                to,
                port: publication.to_port,
                source: publication.source as u8,
                flags: 0,
                slot,
                allow,
                owner: owner(&publication.owner),
            };
            if old == Some(binding) {
                continue;
            }
            if old.is_none_or(|old| old.slot != slot) {
                self.count_anew(slot, old.map(|old| old.slot))?;
            }
            self.map.1.insert(key, binding, 0)?;
            self.held.insert(*key, binding);
            match old.filter(|_| moved).map(|old| old.slot) {
                Some(old) if old != slot => shared.end(old)?,
                Some(old) => shared.generations.raise(old)?,
                None => {}
            }
            if allow != EVERYBODY && old.is_some_and(|old| old.allow != allow) {
                let list = publication.allow.clone();
                let list = list.filter(|_| allow != NOBODY).unwrap_or_default();
                shared.narrowed.insert(slot, list);
            }
            published += 1;
        }
        self.sweep()?;
        failed.map(|()| published)
    }

    /// Takes out the lists that no binding names.
    fn sweep(&mut self) -> Result<()> {
        if self.lists.is_empty() {
            return Ok(());
        }
        let bindings = self.held.values();
        let named: BTreeSet<u32> = bindings.map(|binding| binding.allow).collect();
        self.lists.sweep(&named)
    }

    /// A slot's counters go on from those of the slot that its port had before, or from nothing.
    fn count_anew(&mut self, slot: u32, before: Option<u32>) -> Result<()> {
        let counts = match before {
            Some(before) => self.stats.get(&before, 0)?,
            None => {
                let cpus = nr_cpus().map_err(|(file, error)| anyhow!("{file}: {error}"))?;
                vec![BindingStats::default(); cpus].try_into()?
            }
        };
        Ok(self.stats.set(slot, counts, 0)?)
    }
}

fn owner(text: &str) -> [u8; OWNER_LEN] {
    let mut bytes = [0; OWNER_LEN];
    for (byte, from) in bytes.iter_mut().zip(text.bytes()) {
        *byte = from;
    }
    bytes
}
