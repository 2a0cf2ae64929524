//! `[[network]]`: bridges and the subnets behind them.

use std::collections::HashMap;

use datapath_common::settings::slots::MAX_NETWORKS;
use ipnet::IpNet;

use super::{
    ConfigError, interface_fault,
    ports::quoted,
    table::{Item, Section},
};
use crate::model::Network;

const KEYS: &[&str] = &[
    "bridge",
    "subnets",
    "masquerade",
    "internal",
    "icc",
    "routed",
];

/// All `[[network]]` entries of the file.
pub(super) fn read(file: &Section<'_>) -> Result<Vec<Network>, ConfigError> {
    let entries = file.tables("network", KEYS)?;
    let mut networks = Vec::with_capacity(entries.len());
    let mut bridges: HashMap<&str, String> = HashMap::new();
    let mut subnets: Vec<(IpNet, Item<'_>)> = Vec::new();
    for entry in &entries {
        let item = entry.need("bridge", "name the bridge, such as bridge = \"docker0\"")?;
        let bridge = item.string("write the bridge's name in quotes")?;
        if let Some(fault) = interface_fault(bridge) {
            return Err(item.wrong(fault));
        }
        if let Some(other) = bridges.get(bridge) {
            return Err(item.wrong(format_args!(
                "named already, by {other}; give a bridge one entry with all its subnets"
            )));
        }
        bridges.insert(bridge, item.place());
        let own = read_subnets(entry)?;
        let routed = entry.bool_or("routed", false)?;
        networks.push(Network {
            bridge: bridge.to_owned(),
            subnets: own.iter().map(|(subnet, _)| *subnet).collect(),
            masquerade: entry.bool_or("masquerade", true)?,
            internal: entry.bool_or("internal", false)?,
            icc: entry.bool_or("icc", true)?,
            routed,
            icmp: routed,
        });
        subnets.extend(own);
        if networks.len() > MAX_NETWORKS as usize {
            return Err(item.wrong(format_args!(
                "one network too many; there is room for {MAX_NETWORKS}"
            )));
        }
    }
    refuse_overlaps(subnets)?;
    Ok(networks)
}

fn read_subnets<'a>(entry: &Section<'a>) -> Result<Vec<(IpNet, Item<'a>)>, ConfigError> {
    const EXPECTED: &str = "write a list, such as [\"172.17.0.0/16\"]";
    let list = entry.need("subnets", EXPECTED)?;
    let items = list.array(EXPECTED)?;
    if items.is_empty() {
        return Err(list.wrong("names no subnet; name those of the bridge, or leave the entry out"));
    }
    items
        .into_iter()
        .map(|item| Ok((read_subnet(&item)?, item)))
        .collect()
}

fn read_subnet(item: &Item<'_>) -> Result<IpNet, ConfigError> {
    const EXPECTED: &str = "write a subnet as ADDRESS/PREFIX, such as \"172.17.0.0/16\"";
    let text = item.string(EXPECTED)?;
    let subnet: IpNet = text.parse().map_err(|_| item.wrong(EXPECTED))?;
    if subnet.addr() != subnet.network() {
        let canonical = subnet.trunc().to_string();
        return Err(item.wrong(format_args!(
            "bits are set behind the prefix; write {}",
            quoted(&canonical)
        )));
    }
    if subnet.prefix_len() == 0 {
        return Err(item.wrong("holds every address there is; name the bridge's own subnet"));
    }
    if subnet.addr().is_loopback() || subnet.addr().is_multicast() {
        return Err(item.wrong("endpoints have unicast addresses; name the bridge's own subnet"));
    }
    Ok(subnet)
}

/// Subnets are either apart or one holds the other, so that sorted by address an overlap is always one
/// between neighbours.
fn refuse_overlaps(mut subnets: Vec<(IpNet, Item<'_>)>) -> Result<(), ConfigError> {
    subnets.sort_by_key(|(subnet, _)| (subnet.network(), subnet.prefix_len()));
    for ((wide, first), (narrow, second)) in subnets.iter().zip(subnets.iter().skip(1)) {
        if wide.contains(narrow) {
            return Err(second.wrong(format_args!(
                "overlaps {wide}, {}; an address can belong to one network only",
                first.place()
            )));
        }
    }
    Ok(())
}
