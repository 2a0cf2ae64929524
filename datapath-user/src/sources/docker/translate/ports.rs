//! Published ports, and the endpoints that they lead to.

use std::{cmp::Reverse, collections::HashMap, net::IpAddr};

use datapath_common::binding::Source;

use super::{
    super::{
        answers::{self, Container, Endpoint, Port},
        labels::{Lists, protocol_of},
    },
    Addresses,
    networks::{Mode, Modes},
    short, shown,
};
use crate::model::{Listen, Publication};

/// A bridge network that a container is in.
struct Place {
    addresses: Addresses,
    modes: Modes,
}

/// A container's published ports.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// As the engine lists them.
    pub(super) listed: Vec<Publication>,
    /// On every IPv6 address besides: where nobody else has them.
    pub(super) everywhere: Vec<Publication>,
    /// What makes no sense.
    pub(super) problems: Vec<String>,
}

/// Reads a container's published ports. `gateway` are its addresses in the network that
/// joins overlay networks to the host.
pub(super) fn read(
    container: &Container,
    bridges: &HashMap<&str, Modes>,
    gateway: Option<&Addresses>,
) -> Published {
    let mut owner = short(container.id.as_deref().unwrap_or_default());
    if owner.is_empty() {
        "nameless".clone_into(&mut owner);
    }
    let places = places(container, bridges, gateway);
    let (listed, odd) = ports(container);
    let (mut published, mut everywhere) = (Vec::new(), Vec::new());
    let mut problems: Vec<_> = odd
        .iter()
        .map(|error| format!("a port makes no sense: {}", shown(&error.to_string())))
        .collect();
    match Lists::read(container, &listed, &mut problems) {
        Ok(lists) => {
            for port in &listed {
                match publication(&owner, port, &places, &lists) {
                    Ok(port) => published.extend(port),
                    Err(problem) => problems.push(problem),
                }
            }
            // What is wrong with one of them was said of the listed one.
            let besides = container.everywhere.iter();
            let besides =
                besides.filter_map(|port| publication(&owner, port, &places, &lists).ok());
            everywhere.extend(besides.flatten());
        }
        Err(problem) => problems.push(format!("{problem}; until then its ports stay closed")),
    }
    for problem in &mut problems {
        problem.insert_str(0, &format!("docker container {owner}: "));
    }
    Published {
        listed: published,
        everywhere,
        problems,
    }
}

/// Whether it publishes a port of the host.
pub(super) fn publishes(container: &Container) -> bool {
    let (ports, _) = ports(container);
    ports.iter().any(|port| port.public_port.unwrap_or(0) != 0)
}

fn ports(container: &Container) -> (Vec<Port>, Vec<serde_json::Error>) {
    answers::each(container.ports.clone().unwrap_or_default())
}

/// A published port; `None` for one that is exposed only, or not of our protocols.
fn publication(
    owner: &str,
    port: &Port,
    places: &[Place],
    lists: &Lists,
) -> Result<Option<Publication>, String> {
    let Some(protocol) = protocol_of(port) else {
        return Ok(None);
    };
    let Some(ip) = &port.ip else {
        return Ok(None);
    };
    let listed: IpAddr = ip
        .parse()
        .map_err(|_| format!("address {}: not one", shown(ip)))?;
    let addr = listed.to_canonical();
    let public = port.public_port.unwrap_or(0);
    if port.private_port == 0 {
        return Err(format!("port {public}: leads to port 0, which is none"));
    }
    let to = endpoint(places, addr.is_ipv6());
    let (addr, to, public) = match (to, public) {
        // Without a port of the host's: the network shows its endpoints' own addresses.
        (Some((own, Mode::Routed)), 0) => (own, own, port.private_port),
        (_, 0) => return Ok(None),
        (Some((to, _)), public) => (addr, to, public),
        (None, public) => {
            return Err(format!(
                "port {public}: it has no address in a bridge network"
            ));
        }
    };
    Ok(Some(Publication {
        listen: Listen {
            addr,
            port: public,
            protocol,
        },
        to,
        to_port: port.private_port,
        allow: lists.for_port(port.private_port, protocol, addr),
        source: Source::Docker,
        owner: owner.to_owned(),
    }))
}

/// The address that the engine would lead a port to: in the network that the container's default route of that
/// family goes by. For an IPv6 port of a container without one, the IPv4 address.
fn endpoint(places: &[Place], six: bool) -> Option<(IpAddr, Mode)> {
    let four = || {
        let mut found = places.iter();
        found.find_map(|place| Some((place.addresses.ipv4?, place.modes.ipv4)))
    };
    if !six {
        return four();
    }
    let mut found = places.iter();
    found
        .find_map(|place| Some((place.addresses.ipv6?, place.modes.ipv6)))
        .or_else(four)
}

/// The bridge networks that a container is in, in the order in which the engine would have its default route go by
/// them: by priority, those of both families first, then by name. Internal ones never are.
fn places(
    container: &Container,
    bridges: &HashMap<&str, Modes>,
    gateway: Option<&Addresses>,
) -> Vec<Place> {
    let mut found: Vec<_> = endpoints(container)
        .filter_map(|(name, at)| {
            let modes = *bridges.get(at.network_id.as_deref()?)?;
            let place = Place {
                addresses: Addresses {
                    ipv4: address(at.ipv4.as_deref()),
                    ipv6: address(at.ipv6.as_deref()),
                },
                modes,
            };
            (!modes.internal).then_some((name, at.gateway_priority.unwrap_or(0), place))
        })
        .collect();
    found.sort_by_key(|(name, priority, place)| {
        let both = place.addresses.ipv4.is_some() && place.addresses.ipv6.is_some();
        (Reverse(*priority), !both, *name)
    });
    let last = gateway.map(|addresses| Place {
        addresses: *addresses,
        modes: Modes::default(),
    });
    let found = found.into_iter().map(|(_, _, place)| place);
    found.chain(last).collect()
}

/// A container's places in networks, by the networks' names.
pub(super) fn endpoints(container: &Container) -> impl Iterator<Item = (&String, &Endpoint)> {
    let settings = container.network_settings.as_ref();
    settings
        .and_then(|settings| settings.networks.as_ref())
        .into_iter()
        .flatten()
}

fn address(text: Option<&str>) -> Option<IpAddr> {
    text?.parse().ok()
}
