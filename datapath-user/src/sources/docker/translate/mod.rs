//! The engine's answers, as networks and published ports. Whatever they hold: what makes no sense is left out and
//! said, and nothing of it reaches a log unescaped.

mod networks;
mod ports;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    fmt,
    net::IpAddr,
};

use super::{
    Snapshot,
    answers::{Container, Network},
};

/// Characters of an id that people see.
const SHORT: usize = 12;
/// Characters of somebody else's text that are shown.
const SHOWN: usize = 60;

/// A container's addresses in one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    ipv4: Option<IpAddr>,
    ipv6: Option<IpAddr>,
}

/// All listings put together. `gateway` are the containers' addresses in the bridge network that joins overlay
/// networks to the host, by the containers' ids: the engine lists it as no network of theirs.
pub(super) fn snapshot(
    networks: &[Network],
    containers: &[Container],
    gateway: &HashMap<String, Addresses>,
) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut bridges = HashMap::new();
    for listed in networks {
        if listed.driver.as_deref() != Some("bridge") {
            continue;
        }
        match networks::read(listed) {
            Ok((sides, modes)) => {
                bridges.insert(listed.id.as_deref().unwrap_or_default(), modes);
                snapshot.networks.extend(sides);
            }
            Err(problem) => snapshot.problems.push(problem),
        }
    }
    let (mut publications, mut everywhere) = (BTreeMap::new(), Vec::new());
    for container in containers {
        let own = container.id.as_ref().and_then(|id| gateway.get(id));
        let published = ports::read(container, &bridges, own);
        for port in published.listed {
            publications.entry(port.listen).or_insert(port);
        }
        everywhere.extend(published.everywhere);
        snapshot.problems.extend(published.problems);
    }
    for port in everywhere {
        if let Entry::Vacant(place) = publications.entry(port.listen) {
            snapshot.unlisted.insert(port.listen);
            place.insert(port);
        }
    }
    snapshot.publications = publications.into_values().collect();
    // Whatever order the engine lists in, what is the same compares as the same.
    snapshot.networks.sort_unstable();
    snapshot.problems.sort_unstable();
    snapshot.problems.dedup();
    snapshot
}

/// Whether a container publishes ports of the host, and is in no bridge network of its own.
pub(super) fn needs_gateway(networks: &[Network], containers: &[Container]) -> bool {
    let bridge = |id: &str| {
        networks.iter().any(|network| {
            network.id.as_deref() == Some(id) && network.driver.as_deref() == Some("bridge")
        })
    };
    let bridged = |container: &Container| {
        let mut at = ports::endpoints(container);
        at.any(|(_, at)| at.network_id.as_deref().is_some_and(bridge))
    };
    containers
        .iter()
        .any(|container| ports::publishes(container) && !bridged(container))
}

/// The containers' addresses in a network, by their ids.
pub(super) fn guests(network: Network) -> HashMap<String, Addresses> {
    let address = |text: Option<String>| {
        let text = text?;
        let (addr, _) = text.split_once('/').unwrap_or((&text, ""));
        addr.parse().ok()
    };
    let guests = network.containers.unwrap_or_default();
    let guests = guests.into_iter().map(|(id, guest)| {
        let addresses = Addresses {
            ipv4: address(guest.ipv4),
            ipv6: address(guest.ipv6),
        };
        (id, addresses)
    });
    guests.collect()
}

fn short(id: &str) -> String {
    id.chars()
        .filter(char::is_ascii_alphanumeric)
        .take(SHORT)
        .collect()
}

/// Somebody else's text, fit to be shown.
pub(super) fn shown(text: &str) -> impl fmt::Display + use<> {
    let text: String = text.chars().take(SHOWN).collect();
    text.escape_debug().to_string()
}
