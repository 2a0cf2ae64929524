//! Allow-lists, put into the maps: each list once, under a number of its own, whole before anything names it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result};
use datapath_common::allow::{EVERYBODY, NOBODY};
use ipnet::IpNet;

use crate::{
    kernel::{
        allow,
        flows::Flows,
        pinned::Pinned,
        tables::{Allowed, Tabled, Tables, allow_key},
    },
    model::AllowList,
};

/// The lists of one family.
pub(super) struct Lists<F: Tabled> {
    map: Allowed<F>,
    /// What the map held when it was looked at, and what was changed since.
    present: allow::Lists,
    /// The number of each whole list.
    numbers: BTreeMap<BTreeSet<IpNet>, u32>,
}

impl<F: Tabled> Lists<F> {
    pub(super) fn open(tables: &Tables) -> Result<Self> {
        Ok(Self {
            map: tables.allowed::<F>()?,
            present: allow::Lists::new(),
            numbers: BTreeMap::new(),
        })
    }

    /// Looks at all that the map holds.
    pub(super) fn look(&mut self) -> Result<()> {
        self.present = allow::read::<F>(&self.map)?;
        let present = self.present.iter();
        self.numbers = present
            .map(|(number, list)| (list.clone(), *number))
            .collect();
        Ok(())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// The number of a list, which is written if it is new.
    pub(super) fn number(&mut self, list: Option<&AllowList>) -> Result<u32> {
        let Some(list) = list else {
            return Ok(EVERYBODY);
        };
        if list.is_empty() {
            return Ok(NOBODY);
        }
        let networks: BTreeSet<_> = list.networks().iter().copied().collect();
        if let Some(number) = self.numbers.get(&networks) {
            return Ok(*number);
        }
        let number = (EVERYBODY + 1..NOBODY)
            .find(|number| !self.present.contains_key(number))
            .context("every number is taken")?;
        self.present.insert(number, BTreeSet::new());
        for network in &networks {
            let Some((addr, bits)) = F::subnet(network) else {
                continue;
            };
            if let Err(error) = self.map.insert(&allow_key::<F>(number, addr, bits), 1, 0) {
                self.remove(number).ok();
                return Err(error).with_context(|| format!("no room for the allow-list {list}"));
            }
            self.present.entry(number).or_default().insert(*network);
        }
        self.numbers.insert(networks, number);
        Ok(number)
    }

    /// Takes out the lists that no binding names.
    pub(super) fn sweep(&mut self, named: &BTreeSet<u32>) -> Result<()> {
        let unused: Vec<u32> = self
            .present
            .keys()
            .filter(|number| !named.contains(number))
            .copied()
            .collect();
        unused
            .into_iter()
            .try_for_each(|number| self.remove(number))
    }

    fn remove(&mut self, number: u32) -> Result<()> {
        for network in self.present.remove(&number).unwrap_or_default() {
            if let Some((addr, bits)) = F::subnet(&network) {
                self.map.remove(&allow_key::<F>(number, addr, bits))?;
            }
        }
        self.numbers.retain(|_, other| *other != number);
        Ok(())
    }
}

/// Ends the flows that came by a port of `lists` (by its slot) from a source that its list does not name. The
/// others go on.
pub(super) fn end_others(tables: &Tables, lists: &BTreeMap<u32, AllowList>) -> Result<u64> {
    if lists.is_empty() {
        return Ok(0);
    }
    Flows::new(tables)?.flush(|flow| {
        let list = lists.get(&flow.binding);
        list.is_some_and(|list| !list.contains(flow.original.src))
    })
}

/// Ends all flows that no list allows. For the start: a service may have ended between a change and this.
///
/// # Errors
/// When a map cannot be read or written.
pub fn enforce(tables: &Tables, pin_dir: &Path) -> Result<u64> {
    let ports = Pinned::open(pin_dir)?.ports()?;
    let lists = ports
        .into_iter()
        .filter_map(|port| Some((port.slot, port.publication.allow?)))
        .collect();
    end_others(tables, &lists)
}
