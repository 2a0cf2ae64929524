//! The maps of both families, held open: compared with all that is desired, or changed for a few ports.

use std::{collections::BTreeMap, fmt, ops::AddAssign};

use anyhow::{Context as _, Result};
use datapath_common::{
    family::{V4, V6},
    settings::slots as ranges,
};

use super::{
    Desired, allow,
    first_look::FirstLook,
    side::Side,
    slots::{Generations, SlotsOfBoth},
};
use crate::{
    kernel::{grace, tables::Tables},
    model::{AllowList, Listen, Publication},
};

/// How much a reconciliation changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Ports published, or led elsewhere.
    pub published: usize,
    /// Ports withdrawn.
    pub withdrawn: usize,
    /// Entries of networks, addresses and uplinks written or removed.
    pub network: usize,
    /// Entries of endpoints written or removed.
    pub endpoints: usize,
}

impl AddAssign for Changes {
    fn add_assign(&mut self, other: Self) {
        self.published += other.published;
        self.withdrawn += other.withdrawn;
        self.network += other.network;
        self.endpoints += other.endpoints;
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            published,
            withdrawn,
            network,
            endpoints,
        } = self;
        write!(
            f,
            "{published} ports published, {withdrawn} withdrawn; entries changed: {network} of the network, {endpoints} of \
             endpoints"
        )
    }
}

/// What both families share while their maps change.
pub(super) struct Shared {
    pub(super) slots: SlotsOfBoth,
    pub(super) generations: Generations,
    /// Ports whose allow-list became another, by slot.
    pub(super) narrowed: BTreeMap<u32, AllowList>,
    /// Slots of addresses that the host has no more.
    pub(super) gone: Vec<u32>,
    /// Slots that nobody has any more.
    ended: Vec<u32>,
}

impl Shared {
    /// Ends all flows of a slot that nobody has any more. It is not given out before this change is done.
    pub(super) fn end(&mut self, slot: u32) -> Result<()> {
        self.generations.raise(slot)?;
        self.ended.push(slot);
        Ok(())
    }

    /// Ends all flows of the addresses that are gone: once no uplink has them any more.
    pub(super) fn end_gone(&mut self) -> Result<()> {
        let Self {
            generations, gone, ..
        } = self;
        gone.iter().try_for_each(|slot| generations.raise(*slot))
    }
}

/// The maps.
pub struct Maps {
    tables: Tables,
    four: Side<V4>,
    six: Side<V6>,
    first_look: FirstLook,
    shared: Shared,
}

impl Maps {
    /// Opens them. What a service that was killed withdrew, and had no time to end, ends here.
    ///
    /// # Errors
    /// When a map cannot be read or written. So with the others.
    pub fn open(tables: &Tables) -> Result<Self> {
        let mut maps = Self {
            tables: tables.clone(),
            four: Side::open(tables)?,
            six: Side::open(tables)?,
            first_look: FirstLook::open(tables)?,
            shared: Shared {
                slots: SlotsOfBoth::default(),
                generations: Generations::read(tables)?,
                narrowed: BTreeMap::new(),
                gone: Vec::new(),
                ended: Vec::new(),
            },
        };
        let used = maps.four.slots().chain(maps.six.slots());
        maps.shared.generations.retire(used)?;
        Ok(maps)
    }

    /// Brings them to what is desired: whatever they hold now.
    ///
    /// # Errors
    /// What was possible is done.
    pub fn reconcile(&mut self, desired: &Desired) -> Result<Changes> {
        self.four.look()?;
        self.six.look()?;
        self.first_look.look()?;
        let ports = desired.publications.keys().map(|listen| listen.port);
        self.first_look.publish(ports.clone())?;
        let used = self.four.slots().chain(self.six.slots());
        self.shared.slots.fill(used);
        let four = self.four.reconcile(desired, &mut self.shared);
        let both = four.and_then(|mut changes| {
            changes += self.six.reconcile(desired, &mut self.shared)?;
            Ok(changes)
        });
        let changes = self.settle(both)?;
        self.first_look.settle(ports)?;
        Ok(changes)
    }

    /// Brings these ports to what is wanted of them, `None` for nothing, and touches nothing else: what it costs does
    /// not grow with the others. The first look at packets stays a close one for those that are published no more, until
    /// the next [`Self::reconcile`].
    ///
    /// # Errors
    /// Some may be changed then, and others not: what was before comes back by [`Self::reconcile`].
    pub fn change(&mut self, ports: &BTreeMap<Listen, Option<&Publication>>) -> Result<()> {
        let published = ports
            .iter()
            .filter(|(_, publication)| publication.is_some());
        self.first_look
            .publish(published.map(|(listen, _)| listen.port))?;
        let four = self.four.ports.change(ports, &mut self.shared);
        let both = four.and_then(|()| self.six.ports.change(ports, &mut self.shared));
        self.settle(both)
    }

    /// Whatever else failed: what is in force holds for the flows that are open, too.
    fn settle<T>(&mut self, result: Result<T>) -> Result<T> {
        let ended = self.end_those_opened_meanwhile();
        for slot in self.shared.ended.drain(..) {
            self.shared.slots.free(slot);
        }
        let done = result?;
        ended?;
        Ok(done)
    }

    /// Ends what programs may have opened with an address or by a list that they had found before it was changed.
    fn end_those_opened_meanwhile(&mut self) -> Result<()> {
        let narrowed = std::mem::take(&mut self.shared.narrowed);
        if narrowed.is_empty() && self.shared.gone.is_empty() {
            return Ok(());
        }
        grace::wait();
        self.shared.end_gone()?;
        self.shared.ended.append(&mut self.shared.gone);
        allow::end_others(&self.tables, &narrowed).context("flows that are allowed no more")?;
        Ok(())
    }

    /// Makes every next hop that was found until now count no more: something changed that it may depend on.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn forget_ways(&mut self) -> Result<()> {
        self.shared.generations.raise(ranges::WAYS)
    }

    /// Puts the generations right that somebody else changed, and says how many: nothing desired says what they have to
    /// be.
    ///
    /// # Errors
    /// When the map cannot be read or written.
    pub fn heal(&mut self) -> Result<usize> {
        self.shared.generations.heal()
    }
}
