//! The allow-lists that the maps hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::Result;
use datapath_common::allow::{AllowKey, EVERYBODY, LIST_BITS};
use ipnet::IpNet;

use super::tables::{Allowed, Tabled};
use crate::model::AllowList;

/// The networks of each list, by its number.
pub type Lists = BTreeMap<u32, BTreeSet<IpNet>>;

/// Reads all lists of a family.
///
/// # Errors
/// When the map cannot be read.
pub fn read<F: Tabled>(allowed: &Allowed<F>) -> Result<Lists> {
    let mut lists = Lists::new();
    for entry in allowed.iter() {
        let (key, _) = entry?;
        let AllowKey { list, addr } = key.data();
        let bits = key.prefix_len().saturating_sub(LIST_BITS);
        let addr: IpAddr = addr.into();
        if let Ok(network) = IpNet::new(addr, u8::try_from(bits).unwrap_or(u8::MAX)) {
            lists.entry(list).or_default().insert(network);
        }
    }
    Ok(lists)
}

/// The list that a binding names.
#[must_use]
pub fn named(lists: &Lists, number: u32) -> Option<AllowList> {
    if number == EVERYBODY {
        return None;
    }
    let networks = lists.get(&number).into_iter().flatten();
    Some(networks.copied().collect())
}
