//! Garbage collection: what no packet would find alive any more is taken out of the maps.
//!
//! Nothing waits for it: the programs judge every entry that they find. It gives memory back, and places in the
//! table of established flows, which nothing evicts from. While it looks at every flow it counts those of each
//! endpoint, if there is a limit.

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{HashMap, MapData},
};
use datapath_common::{
    conntrack::{Flow, timeouts::SECOND},
    family::{V4, V6},
    tuple::{Direction, Tuple},
};

use super::{
    batch::Batched,
    census::Census,
    flows,
    life::{Judge, Tier},
    sockets::Sockets,
    tables::{Tabled, Tables},
};

/// The kernel's `BPF_NOEXIST`: insert, never replace.
const NOEXIST: u64 = 1;

/// Younger flows are left alone: one of them may have but one entry since the program is about to write the
/// other.
const YOUNG: u64 = SECOND;

/// How many entries were taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Of flows; each has two.
    pub flows: u64,
    /// Of endpoint-independent mappings; each has two.
    pub mappings: u64,
    /// Of datagrams under way in fragments.
    pub fragments: u64,
    /// Of next hops that no packet took lately.
    pub hops: u64,
    /// Of what sockets of the host's own dialled that are closed by now.
    pub dialled: u64,
}

/// Goes through all maps whose entries expire, once.
///
/// # Errors
/// When a map cannot be read or written.
pub fn collect(tables: &Tables) -> Result<Collected> {
    let judge = flows::judge(tables)?;
    let mut collected = Collected::default();
    collect_of::<V4>(tables, &judge, &mut collected)?;
    collect_of::<V6>(tables, &judge, &mut collected)?;
    collected.dialled = forget_closed(tables).context("what the host's own sockets dialled")?;
    Ok(collected)
}

/// Takes out what closed sockets dialled. Else those of many short connections would push out what one dialled that is
/// open for long.
fn forget_closed(tables: &Tables) -> Result<u64> {
    let (four, six) = (tables.peers::<V4>()?, tables.peers::<V6>()?);
    let (mut keys4, mut keys6) = (four.keys()?, six.keys()?);
    // Twice: a socket that is dialling in this moment is in none of the kernel's tables yet.
    for _ in 0..2 {
        if keys4.is_empty() && keys6.is_empty() {
            return Ok(0);
        }
        let open = Sockets::open()?.cookies()?;
        keys4.retain(|key| !open.contains(&key.socket()));
        keys6.retain(|key| !open.contains(&key.socket()));
    }
    Ok((four.remove(&keys4)? + six.remove(&keys6)?) as u64)
}

fn collect_of<F: Tabled>(tables: &Tables, judge: &Judge, collected: &mut Collected) -> Result<()> {
    let mut census = Census::<F>::begin(tables, judge.now)?;
    for tier in [Tier::Half, Tier::Established] {
        let table = tables.tier::<F>(tier)?;
        let mut writable = tables.tier::<F>(tier)?;
        collected.flows += sweep(
            &tables.batched::<F>(tier)?,
            &mut writable,
            |key: &Tuple<F>, flow: &Flow<F>| {
                let Some(direction) = Direction::from_raw(key.direction) else {
                    return true;
                };
                let partner = flow.partner(direction);
                let lives = judge.now.saturating_sub(flow.created) <= YOUNG
                    || judge.lives(flow, tier, || table.get(&partner, 0).ok());
                if let (true, Some(census)) = (lives, &mut census) {
                    census.see(key, flow);
                }
                !lives
            },
        )?;
    }
    if let Some(census) = census {
        census.note(tables)?;
    }
    let (batched, mut writable) = tables.mappings::<F>()?;
    collected.mappings += sweep(&batched, &mut writable, |_, half| {
        half.deadline <= judge.now
    })?;
    let (batched, mut writable) = tables.fragments::<F>()?;
    collected.fragments += sweep(&batched, &mut writable, |_, note| {
        note.deadline <= judge.now
    })?;
    let (batched, mut writable) = tables.hops::<F>()?;
    collected.hops += sweep(&batched, &mut writable, |_, hop| !hop.is_fresh(judge.now))?;
    Ok(())
}

/// Takes the dead out. Between the look and the deed a program may have put a living one in the same place:
/// that one is put back, unless there is another already.
fn sweep<K: Pod, V: Pod>(
    map: &Batched<K, V>,
    writable: &mut HashMap<MapData, K, V>,
    mut dead: impl FnMut(&K, &V) -> bool,
) -> Result<u64> {
    let mut removed = 0;
    map.scan(|keys, values| {
        for (key, value) in keys.iter().zip(values) {
            if !dead(key, value) {
                continue;
            }
            match map.take(key)? {
                Some(value) if dead(key, &value) => removed += 1,
                Some(value) => drop(writable.insert(key, value, NOEXIST)),
                None => {}
            }
        }
        Ok(())
    })?;
    Ok(removed)
}
