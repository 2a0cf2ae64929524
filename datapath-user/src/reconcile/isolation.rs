//! `icc = false`: endpoints of one bridge do not reach each other. The bridge itself does that, by the `isolated` flag
//! of its ports: an isolated port talks to the host alone, whatever the protocol, and with no service.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use datapath_common::{
    family::{V4, V6},
    network::Network,
};

use super::Desired;
use crate::{
    kernel::{
        netns,
        tables::{Tabled, Tables},
    },
    sources::netlink::{Host, Netlink},
};

/// Sets the flag where it is missing, and takes it off where this service had set it and it is no longer wanted.
/// `ours` remembers where it did; a port that somebody else isolated stays so.
///
/// # Errors
/// When the kernel refuses.
pub async fn apply(netlink: &Netlink, desired: &Desired, ours: &mut BTreeSet<u32>) -> Result<()> {
    for (network, bridge) in &desired.networks {
        for link in ports(&desired.host, *bridge) {
            if !network.icc && !link.isolated {
                set(netlink, &link.name, link.ifindex, true).await?;
                ours.insert(link.ifindex);
            } else if network.icc && link.isolated && ours.remove(&link.ifindex) {
                set(netlink, &link.name, link.ifindex, false).await?;
            }
        }
    }
    Ok(())
}

/// Takes the flag off the ports of every network whose endpoints were kept apart, where its interfaces are.
///
/// # Errors
/// When the kernel refuses, or a map cannot be read.
pub async fn release(tables: &Tables) -> Result<()> {
    if tables.settings()?.get(&0, 0)?.netns != netns::cookie()? {
        // The interfaces of another network namespace are not the maps'.
        return Ok(());
    }
    let bridges = separate::<V4>(tables)?
        .into_iter()
        .chain(separate::<V6>(tables)?);
    let bridges: BTreeSet<u32> = bridges.collect();
    if bridges.is_empty() {
        return Ok(());
    }
    let netlink = Netlink::connect()?;
    let host = netlink.dump().await?;
    for bridge in bridges {
        for link in ports(&host, bridge).filter(|link| link.isolated) {
            set(&netlink, &link.name, link.ifindex, false).await?;
        }
    }
    Ok(())
}

fn separate<F: Tabled>(tables: &Tables) -> Result<Vec<u32>> {
    let mut bridges = Vec::new();
    for entry in tables.networks::<F>()?.iter() {
        let (_, network) = entry?;
        if !network.has(Network::ICC) {
            bridges.push(network.bridge);
        }
    }
    Ok(bridges)
}

fn ports(host: &Host, bridge: u32) -> impl Iterator<Item = &crate::sources::netlink::Link> {
    host.links
        .iter()
        .filter(move |link| link.master == Some(bridge))
}

async fn set(netlink: &Netlink, name: &str, ifindex: u32, isolated: bool) -> Result<()> {
    netlink
        .isolate(ifindex, isolated)
        .await
        .with_context(|| format!("icc: the bridge's port {name}"))
}
