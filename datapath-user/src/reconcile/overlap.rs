//! Networks whose addresses somebody else has, too (RFC 4787, REQ-7): said aloud, since packets of the one are taken
//! for the other's.

use ipnet::IpNet;

use super::Desired;

/// What overlaps, a line each.
#[must_use]
pub fn find(desired: &Desired) -> Vec<String> {
    let mut found = Vec::new();
    let bridges: Vec<_> = desired.networks.iter().map(|(_, index)| *index).collect();
    for (number, (network, _)) in desired.networks.iter().enumerate() {
        for subnet in &network.subnets {
            for (other, _) in desired.networks.iter().skip(number + 1) {
                for theirs in other
                    .subnets
                    .iter()
                    .filter(|theirs| overlap(subnet, theirs))
                {
                    found.push(format!(
                        "network {}: {subnet} overlaps {theirs} of network {}: give one of them another subnet",
                        network.bridge, other.bridge
                    ));
                }
            }
            for address in &desired.host.addresses {
                let Ok(outside) = IpNet::new(address.addr, address.prefix) else {
                    continue;
                };
                if bridges.contains(&address.ifindex) || !overlap(subnet, &outside) {
                    continue;
                }
                let links = &desired.host.links;
                let link = links.iter().find(|link| link.ifindex == address.ifindex);
                let name = link.map_or("?", |link| link.name.as_str());
                found.push(format!(
                    "network {}: {subnet} overlaps {outside} on {name}: what comes from there is dropped as forged; \
                     give the network another subnet",
                    network.bridge
                ));
            }
        }
    }
    found
}

/// Whether two prefixes share an address: then one holds the other.
fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Network,
        sources::netlink::{Address, Host},
    };

    fn desired(subnets: &[&str], outside: &str) -> Desired {
        let networks = subnets.iter().enumerate().map(|(number, subnet)| {
            let network = Network {
                bridge: format!("br{number}"),
                subnets: vec![subnet.parse().unwrap()],
                masquerade: true,
                internal: false,
                icc: true,
                routed: false,
                icmp: false,
            };
            (network, number as u32)
        });
        let outside: IpNet = outside.parse().unwrap();
        let address = |ifindex, net: IpNet| Address {
            ifindex,
            addr: net.addr(),
            prefix: net.prefix_len(),
            preferred: true,
        };
        Desired {
            networks: networks.collect(),
            host: Host {
                // The first network's own address is no overlap.
                addresses: vec![
                    address(0, "172.17.0.1/16".parse().unwrap()),
                    address(9, outside),
                ],
                ..Host::default()
            },
            ..Desired::default()
        }
    }

    #[test]
    fn what_overlaps_is_told() {
        for (subnets, outside, expected) in [
            (&["172.17.0.0/16", "172.18.0.0/16"][..], "203.0.113.2/24", 0),
            (&["172.17.0.0/16"], "172.17.5.1/24", 1),
            (&["172.17.0.0/16"], "172.16.0.1/12", 1),
            (&["172.17.0.0/16"], "172.17.0.9/32", 1),
            (&["172.17.0.0/16", "172.17.128.0/17"], "203.0.113.2/24", 1),
            (&["fd00:17::/64"], "203.0.113.2/24", 0),
            (&["fd00:17::/64"], "fd00:17::5/48", 1),
        ] {
            let found = find(&desired(subnets, outside));
            assert_eq!(found.len(), expected, "{subnets:?} {outside}: {found:?}");
        }
    }
}
