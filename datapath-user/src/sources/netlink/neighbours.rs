//! Who has which address, and behind which port of a bridge.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::Result;
use datapath_common::way::Mac;
use futures::TryStreamExt as _;
use netlink_packet_route::{
    AddressFamily,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};
use rtnetlink::Handle;

use super::{Neighbour, Station};

/// The neighbours of all links, sorted.
pub(super) async fn neighbours(handle: &Handle) -> Result<Vec<Neighbour>> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut dump = handle
            .neighbours()
            .get()
            .set_address_family(family)
            .execute();
        while let Some(message) = dump.try_next().await? {
            // One that could not be found has no address, or an old one.
            let lost = matches!(
                message.header.state,
                NeighbourState::Failed | NeighbourState::Incomplete
            );
            if let (Some(addr), Some(mac), false) = (address(&message), mac(&message), lost) {
                let ifindex = message.header.ifindex;
                all.push(Neighbour { ifindex, addr, mac });
            }
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// Forgets that nobody answered for these addresses until now.
pub(super) async fn ask_anew(handle: &Handle, addresses: &BTreeSet<IpAddr>) -> Result<()> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let request = handle.neighbours().get();
        let mut dump = request.set_address_family(family).execute();
        let mut unanswered = Vec::new();
        while let Some(message) = dump.try_next().await? {
            let concerned = address(&message).is_some_and(|addr| addresses.contains(&addr));
            if concerned && message.header.state == NeighbourState::Incomplete {
                unanswered.push(message);
            }
        }
        for message in unanswered {
            // It may have been answered, or given up, in this moment.
            drop(handle.neighbours().del(message).execute().await);
        }
    }
    Ok(())
}

/// The stations of all bridges, sorted: not the addresses of the ports themselves.
pub(super) async fn stations(handle: &Handle) -> Result<Vec<Station>> {
    let mut all = Vec::new();
    let request = handle.neighbours().get();
    let mut dump = request.set_address_family(AddressFamily::Bridge).execute();
    while let Some(message) = dump.try_next().await? {
        let bridged = message
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, NeighbourAttribute::Controller(_)));
        let own = message.header.state == NeighbourState::Permanent;
        if let (Some(mac), true, false) = (mac(&message), bridged, own) {
            let port = message.header.ifindex;
            all.push(Station { port, mac });
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn mac(message: &NeighbourMessage) -> Option<Mac> {
    message.attributes.iter().find_map(|attribute| {
        if let NeighbourAttribute::LinkLayerAddress(bytes) = attribute {
            bytes.as_slice().try_into().ok()
        } else {
            None
        }
    })
}

fn address(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet(addr)) = attribute {
            Some(IpAddr::V4(*addr))
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Inet6(addr)) = attribute {
            Some(IpAddr::V6(*addr))
        } else {
            None
        }
    })
}
