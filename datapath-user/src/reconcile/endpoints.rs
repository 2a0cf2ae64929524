//! Where the endpoints are: the bridge's neighbours say who has an address, its stations behind which port.

use std::{collections::BTreeMap, net::IpAddr};

use datapath_common::way::Endpoint;

use crate::{
    model::Network,
    sources::netlink::{Host, Link},
};

/// The endpoints of these networks that the host knows. One that it does not know yet is found by the stack,
/// and known from then on.
pub(super) fn find(networks: &[(Network, u32)], host: &Host) -> BTreeMap<IpAddr, Endpoint> {
    let links: BTreeMap<_, _> = host.links.iter().map(|link| (link.ifindex, link)).collect();
    let mut ports = BTreeMap::new();
    for station in &host.stations {
        let Some(link) = links.get(&station.port) else {
            continue;
        };
        if let (Some(bridge), true) = (link.master, is_port(networks, link)) {
            ports.insert((bridge, station.mac), station.port);
        }
    }
    let mut found = BTreeMap::new();
    for (network, bridge) in networks {
        let Some(gateway) = links.get(bridge).and_then(|link| link.mac) else {
            continue;
        };
        for neighbour in host.neighbours.iter().filter(|at| at.ifindex == *bridge) {
            let inside = network
                .subnets
                .iter()
                .any(|net| net.contains(&neighbour.addr));
            let port = ports.get(&(*bridge, neighbour.mac));
            if let (Some(&port), true) = (port, inside) {
                let mac = neighbour.mac;
                found.insert(neighbour.addr, Endpoint { port, mac, gateway });
            }
        }
    }
    found
}

/// Whether an interface is a port of one of these networks' bridges with an endpoint behind it.
pub(super) fn is_port(networks: &[(Network, u32)], link: &Link) -> bool {
    let bridge = |index| networks.iter().any(|(_, bridge)| *bridge == index);
    link.leads_elsewhere && link.master.is_some_and(bridge)
}
