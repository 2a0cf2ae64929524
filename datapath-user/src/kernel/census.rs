//! How many flows each endpoint has: counted while garbage is collected, and noted for the programs, which keep to
//! the limit (see [`datapath_common::limit`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Result;
use datapath_common::{
    conntrack::{Flow, timeouts::SECOND},
    family::Address as _,
    limit::{Held, Opened},
    tuple::{Direction, Tuple},
};

use super::tables::{Tabled, Tables};

/// For how long the programs believe a count, in nanoseconds: a collection may be late, and take its time.
#[must_use]
pub fn patience(gc_interval: Duration) -> u64 {
    let interval = u64::try_from(gc_interval.as_nanos()).unwrap_or(u64::MAX);
    interval.saturating_mul(3).max(60 * SECOND)
}

/// A count of one family's flows under way.
pub(super) struct Census<F: Tabled> {
    /// Addresses of the host, whose own flows are nobody's here.
    locals: BTreeSet<F::Addr>,
    /// The endpoints that are known: those that are not are counted together.
    endpoints: BTreeSet<F::Addr>,
    /// What had been opened before it began.
    opened: BTreeMap<F::Addr, Opened>,
    flows: BTreeMap<F::Addr, u64>,
    now: u64,
}

impl<F: Tabled> Census<F> {
    /// Begins one, unless there is no limit: then what is known of earlier ones is forgotten.
    pub(super) fn begin(tables: &Tables, now: u64) -> Result<Option<Self>> {
        let opened: BTreeMap<_, _> = tables.opened::<F>()?.iter().flatten().collect();
        if tables.settings()?.get(&0, 0)?.flows_per_endpoint == 0 {
            for account in opened.keys() {
                forget::<F>(tables, account)?;
            }
            return Ok(None);
        }
        Ok(Some(Self {
            locals: tables.locals::<F>()?.0.entries()?.into_keys().collect(),
            endpoints: tables.endpoints::<F>()?.0.entries()?.into_keys().collect(),
            opened,
            flows: BTreeMap::new(),
            now,
        }))
    }

    /// Counts the flow of a living entry, if it is the one of the endpoint that opened it.
    pub(super) fn see(&mut self, key: &Tuple<F>, flow: &Flow<F>) {
        let outward = key.direction == Direction::FromEndpoint as u8;
        if outward && flow.has(Flow::<F>::ORIGINAL) && !self.locals.contains(&key.src) {
            let known = self.endpoints.contains(&key.src);
            let account = if known { key.src } else { F::Addr::UNSPECIFIED };
            *self.flows.entry(account).or_default() += 1;
        }
    }

    /// Notes it. Who has nothing and opened nothing meanwhile is forgotten.
    pub(super) fn note(mut self, tables: &Tables) -> Result<()> {
        let mut held = tables.held::<F>()?;
        let live = tables.opened::<F>()?;
        for (account, before) in self.opened {
            let flows = self.flows.remove(&account).unwrap_or_default();
            if flows == 0 && live.get(&account, 0).is_ok_and(|now| now == before) {
                forget::<F>(tables, &account)?;
                continue;
            }
            let count = Held {
                flows,
                opened: before.flows,
                at: self.now,
            };
            held.insert(account, count, 0)?;
        }
        // Those that opened all they have before there was a limit.
        for (account, flows) in self.flows {
            let count = Held {
                flows,
                opened: 0,
                at: self.now,
            };
            if held.insert(account, count, 0).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Takes out what is known of an endpoint. What it had goes first: what it opened counts in full until then.
fn forget<F: Tabled>(tables: &Tables, account: &F::Addr) -> Result<()> {
    drop(tables.held::<F>()?.remove(account));
    drop(tables.opened::<F>()?.remove(account));
    Ok(())
}
