//! The tables beside the model: emptied before a run, and compared after it.

use std::collections::BTreeSet;

use aya::{Pod, maps::MapData};
use datapath_common::{
    family::{V4, V6},
    proto,
};
use datapath_tests::lab::wait_until;
use datapath_user::kernel::{
    flows::Flows,
    life::Tier,
    tables::{Tabled, Tables},
};

use super::model::{Model, Proto};
use crate::host::Host;

/// Waits until the service knows so many addresses of the host, of both families.
pub(super) fn wait_for_addresses(host: &Host, count: usize) {
    let tables = Tables::new(host.datapath.pins());
    wait_until("the addresses", || {
        let (_, v4) = tables.locals::<V4>().unwrap();
        // The link-local ones are addresses, too.
        let (_, v6) = tables.locals::<V6>().unwrap();
        let v6 = v6.keys().flatten().filter(|addr| addr.0[0] != 0xfe);
        v4.keys().count() + v6.count() == count
    });
}

/// Takes everything out that packets left behind.
pub(super) fn clear(host: &Host) {
    let tables = Tables::new(host.datapath.pins());
    clear_of::<V4>(&tables);
    clear_of::<V6>(&tables);
}

fn clear_of<F: Tabled>(tables: &Tables) {
    for tier in [Tier::Half, Tier::Established] {
        empty(tables.tier::<F>(tier).unwrap());
    }
    empty(tables.mappings::<F>().unwrap().1);
    empty(tables.fragments::<F>().unwrap().1);
}

fn empty<K: Pod, V: Pod>(mut table: aya::maps::HashMap<MapData, K, V>) {
    let keys: Vec<_> = table.keys().map(Result::unwrap).collect();
    for key in keys {
        table.remove(&key).unwrap();
    }
}

/// Compares every flow that lives with the sessions: addresses, ports, counters, and where it is kept.
pub(super) fn compare(host: &Host, models: &[&Model]) -> Result<(), String> {
    let tables = Tables::new(host.datapath.pins());
    let mut kept = BTreeSet::new();
    Flows::new(&tables)
        .unwrap()
        .each(
            |_| true,
            |flow| {
                let sides = [&flow.original, &flow.reply];
                let tier = (flow.protocol != proto::TCP).then_some(flow.assured);
                kept.insert((
                    flow.protocol,
                    sides.map(|side| (side.source(), side.destination())),
                    sides.map(|side| side.packets),
                    flow.answered,
                    tier,
                ));
                Ok(())
            },
        )
        .unwrap();
    let sessions: BTreeSet<_> = models
        .iter()
        .flat_map(|model| &model.sessions)
        .map(|session| {
            let protocol = match (session.proto, session.asked.src.is_ipv4()) {
                (Proto::Tcp, _) => proto::TCP,
                (Proto::Udp, _) => proto::UDP,
                (Proto::Echo, true) => proto::ICMP,
                (Proto::Echo, false) => proto::ICMPV6,
            };
            let answered = session.packets[1] > 0;
            (
                protocol,
                [session.asked, session.told.answer()].map(|pair| (pair.src, pair.dst)),
                session.packets,
                answered,
                (session.proto != Proto::Tcp).then_some(answered),
            )
        })
        .collect();
    let (missing, beyond): (Vec<_>, Vec<_>) = (
        sessions.difference(&kept).collect(),
        kept.difference(&sessions).collect(),
    );
    if missing.is_empty() && beyond.is_empty() {
        return Ok(());
    }
    Err(format!(
        "not in the tables: {missing:?}\nnot in the model: {beyond:?}"
    ))
}
