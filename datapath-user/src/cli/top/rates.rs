//! Two looks at the counters, and what went on between them.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use anyhow::Result;
use datapath_common::{binding::BindingStats, proto, reason::Outcome};
use tokio::time::Instant;

use super::Sort;
use crate::{
    kernel::pinned::Pinned,
    model::Listen,
    view::{FlowView, PortView},
};

/// How many flows are kept to be shown: those that come first.
const SHOWN: usize = 500;

/// Packets and bytes.
type Count = (u64, u64);

/// What was counted the last time.
#[derive(Debug, Default)]
pub(super) struct Former {
    when: Option<Instant>,
    ports: HashMap<Listen, BindingStats>,
    /// By a hash of both ends: a million flows are to cost little.
    flows: HashMap<u64, Count>,
    reasons: HashMap<&'static str, u64>,
}

/// What is to be shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    pub(super) ports: Vec<Row>,
    /// All ports, shown or not.
    pub(super) port_count: usize,
    pub(super) flows: Vec<Row>,
    pub(super) drops: Vec<Row>,
    /// All flows, shown or not.
    pub(super) flow_count: usize,
    /// Packets dropped each second, for whatever reason.
    pub(super) drop_rate: u64,
}

/// One row: what it is about, and its numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Its words, as many as there are columns of them.
    pub(super) words: Vec<String>,
    /// Bytes each second.
    pub(super) rate: u64,
    /// Packets each second.
    pub(super) packet_rate: u64,
    /// Flows opened each second, of a port.
    pub(super) flow_rate: u64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Row {
    const fn order(&self, sort: Sort) -> (u64, u64) {
        match sort {
            Sort::Rate => (self.rate, self.bytes),
            Sort::Bytes => (self.bytes, self.rate),
            Sort::Packets => (self.packets, self.rate),
        }
    }

    fn holds(&self, filter: &str) -> bool {
        filter.is_empty() || self.words.iter().any(|word| word.contains(filter))
    }
}

/// How much a counter went up in each second. One that began anew went up by what it shows.
fn rate(now: u64, before: u64, seconds: f64) -> u64 {
    if seconds <= 0.0 {
        return 0;
    }
    let up = now.checked_sub(before).unwrap_or(now);
    (up as f64 / seconds).round() as u64
}

/// Looks at the maps.
pub(super) fn look(
    pinned: &Pinned,
    former: Former,
    now: Instant,
    sort: Sort,
    filter: &str,
) -> Result<(Look, Former)> {
    // Without a former look there are no rates.
    let seconds = former.when.map_or(0.0, |when| (now - when).as_secs_f64());
    let mut next = Former {
        when: Some(now),
        ..Former::default()
    };
    let mut look = Look::default();
    for port in pinned.ports()? {
        let before = former
            .ports
            .get(&port.publication.listen)
            .copied()
            .unwrap_or_default();
        next.ports.insert(port.publication.listen, port.stats);
        look.ports.push(port_row(&port, before, seconds));
    }
    look.port_count = look.ports.len();
    look.ports.retain(|row| row.holds(filter));
    look.ports.sort_by_key(|row| Reverse(row.order(sort)));

    let mut first = BinaryHeap::with_capacity(SHOWN + 1);
    pinned.flows()?.each(
        |_| true,
        |flow| {
            look.flow_count += 1;
            let key = key(&flow);
            let count = (
                flow.original.packets + flow.reply.packets,
                flow.original.bytes + flow.reply.bytes,
            );
            let before = former.flows.get(&key).copied().unwrap_or_default();
            next.flows.insert(key, count);
            let row = flow_row(count, before, seconds);
            let order = Reverse(row.order(sort));
            let last = first.peek().filter(|_| first.len() == SHOWN);
            if last.is_some_and(|last: &Ordered| order >= last.0) {
                return Ok(());
            }
            // Words are made of those alone that may be shown.
            let words = flow_words(&flow);
            let row = Row { words, ..row };
            if row.holds(filter) {
                first.push(Ordered(order, row));
                if first.len() > SHOWN {
                    first.pop();
                }
            }
            Ok(())
        },
    )?;
    look.flows = first
        .into_sorted_vec()
        .into_iter()
        .map(|ordered| ordered.1)
        .collect();

    for (reason, count) in pinned.reasons()? {
        if reason.outcome() != Outcome::Drop || count.packets == 0 {
            continue;
        }
        let before = former.reasons.get(reason.name()).copied();
        next.reasons.insert(reason.name(), count.packets);
        let packet_rate = rate(count.packets, before.unwrap_or(0), seconds);
        look.drop_rate += packet_rate;
        look.drops.push(Row {
            words: vec![reason.name().to_owned(), reason.meaning().to_owned()],
            packet_rate,
            packets: count.packets,
            bytes: count.bytes,
            ..Row::default()
        });
    }
    look.drops.retain(|row| row.holds(filter));
    look.drops
        .sort_by_key(|row| Reverse((row.packet_rate, row.packets)));
    Ok((look, next))
}

/// A row in a heap whose greatest is what comes last.
struct Ordered(Reverse<(u64, u64)>, Row);

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

fn key(flow: &FlowView) -> u64 {
    let mut hasher = DefaultHasher::new();
    let (original, reply) = (&flow.original, &flow.reply);
    (flow.protocol, original.source(), original.destination()).hash(&mut hasher);
    (reply.source(), reply.destination()).hash(&mut hasher);
    hasher.finish()
}

fn port_row(port: &PortView, before: BindingStats, seconds: f64) -> Row {
    let publication = &port.publication;
    Row {
        words: vec![
            publication.listen.to_string(),
            publication.target().to_string(),
            publication.owner.clone(),
        ],
        rate: rate(port.stats.bytes, before.bytes, seconds),
        packet_rate: rate(port.stats.packets, before.packets, seconds),
        flow_rate: rate(port.stats.flows, before.flows, seconds),
        packets: port.stats.packets,
        bytes: port.stats.bytes,
    }
}

/// A flow's row, without its words.
fn flow_row(count: Count, before: Count, seconds: f64) -> Row {
    Row {
        rate: rate(count.1, before.1, seconds),
        packet_rate: rate(count.0, before.0, seconds),
        packets: count.0,
        bytes: count.1,
        ..Row::default()
    }
}

fn flow_words(flow: &FlowView) -> Vec<String> {
    vec![
        proto::name(flow.protocol).unwrap_or("unknown").to_owned(),
        flow.state.map_or("", |state| state.name()).to_owned(),
        flow.original.source().to_string(),
        flow.original.destination().to_string(),
        flow.reply.source().to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_was_added_in_a_second() {
        assert_eq!(rate(300, 100, 2.0), 100);
        assert_eq!(rate(50, 100, 1.0), 50, "begun anew");
        assert_eq!(rate(300, 100, 0.0), 0, "no former look");
        assert_eq!(rate(u64::MAX, 0, 1.0), u64::MAX);
    }

    #[test]
    fn the_heap_keeps_those_that_come_first() {
        let mut heap = BinaryHeap::new();
        for bytes in [5, 1, 9, 7, 3] {
            let row = Row {
                bytes,
                ..Row::default()
            };
            heap.push(Ordered(Reverse(row.order(Sort::Bytes)), row));
            if heap.len() > 3 {
                heap.pop();
            }
        }
        let kept: Vec<_> = heap
            .into_sorted_vec()
            .into_iter()
            .map(|kept| kept.1.bytes)
            .collect();
        assert_eq!(kept, [9, 7, 5]);
    }
}
