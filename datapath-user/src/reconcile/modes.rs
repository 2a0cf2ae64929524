//! What a network is, changed while its endpoints have flows open: a flow that came about under other rules is not looked
//! at again, so it ends. (Endpoints that may not meet any more, `icc`, never had flows of ours.)

use std::net::IpAddr;

use anyhow::Result;
use datapath_common::{
    family::{V4, V6},
    network::Network as Entry,
};
use ipnet::IpNet;

use super::{Desired, side::flags};
use crate::kernel::{
    flows::Flows,
    grace,
    tables::{Tabled, Tables},
};

/// Who reaches whom, and with which address.
const RULES: u32 = Entry::MASQUERADE | Entry::INTERNAL | Entry::ROUTED | Entry::ICMP;

/// The subnets whose networks are to be something else than the maps say. For the time before these are changed.
///
/// # Errors
/// When a map cannot be read.
pub fn changing(tables: &Tables, desired: &Desired) -> Result<Vec<IpNet>> {
    let mut changing = Vec::new();
    let mut present = Vec::new();
    read::<V4>(tables, &mut present)?;
    read::<V6>(tables, &mut present)?;
    for (subnet, rules) in present {
        let wanted = desired.networks.iter();
        let mut wanted = wanted.filter(|(network, _)| network.subnets.contains(&subnet));
        let differs = |network| flags(network) & RULES != rules & RULES;
        if wanted.any(|(network, _)| differs(network)) {
            changing.push(subnet);
        }
    }
    Ok(changing)
}

/// Ends the flows of endpoints in these subnets, once the maps say what their networks are now.
///
/// # Errors
/// As above.
pub fn end(tables: &Tables, changed: &[IpNet]) -> Result<u64> {
    if changed.is_empty() {
        return Ok(0);
    }
    grace::wait();
    let inside = |addr: IpAddr| changed.iter().any(|subnet| subnet.contains(&addr));
    Flows::new(tables)?.flush(|flow| inside(flow.original.src) || inside(flow.reply.src))
}

fn read<F: Tabled>(tables: &Tables, present: &mut Vec<(IpNet, u32)>) -> Result<()> {
    for entry in tables.networks::<F>()?.iter() {
        let (key, network) = entry?;
        let addr: IpAddr = key.data().into();
        if let Ok(subnet) = IpNet::new(addr, u8::try_from(key.prefix_len()).unwrap_or(u8::MAX)) {
            present.push((subnet, network.flags));
        }
    }
    Ok(())
}
