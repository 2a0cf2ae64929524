//! The wanted state against the maps: what differs is changed, and nothing else. Run as often as one likes;
//! the maps are the truth, so a restart, a missed event and a tampered entry all heal the same way.

pub mod allow;
mod endpoints;
mod first_look;
pub mod forwarding;
pub mod isolation;
pub mod led;
mod maps;
pub mod modes;
pub mod overlap;
mod ports;
mod side;
mod slots;
pub mod stranded;
pub mod xdp;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::{Context as _, Result, bail};
use datapath_common::{settings::Settings, way::Endpoint};

use self::forwarding::Ways;
pub use self::maps::{Changes, Maps};
use crate::{
    config::{Config, Uplinks},
    kernel::{
        attach::{self, Hook, Role},
        census, netns,
        tables::Tables,
    },
    model::{Listen, Network, Publication, Wanted},
    sources::{
        docker::is_own_bridge,
        netlink::{Host, Link},
    },
};

/// What should be, put together from the configuration, the API and the host's network.
#[derive(Debug, Default)]
pub struct Desired {
    /// The networks whose bridge exists, with the bridge's index.
    pub networks: Vec<(Network, u32)>,
    /// The published ports, by where they listen.
    pub publications: BTreeMap<Listen, Publication>,
    /// The uplinks.
    pub uplinks: Vec<Link>,
    /// Docker has not spoken yet: no network is taken away, which may be its.
    pub partial: bool,
    /// Named in the configuration, but not there: attached as soon as they come.
    pub missing: Vec<String>,
    /// Named in the configuration, but of a kind that the programs cannot read: they are left alone.
    pub unfit: Vec<String>,
    /// The endpoints behind the bridges, as far as the host knows where they are.
    pub endpoints: BTreeMap<IpAddr, Endpoint>,
    /// The host's network.
    pub host: Host,
}

impl Desired {
    /// Puts the sources together. `uplinks` are those that were in use until now.
    #[must_use]
    pub fn new(config: &Config, wanted: Wanted, host: Host, uplinks: &[Link]) -> Self {
        let (mut missing, mut unfit) = (Vec::new(), Vec::new());
        let mut find = |name: &String| match host.link(name) {
            Some(link) if link.ethernet => Some(link.clone()),
            Some(_) => {
                unfit.push(name.clone());
                None
            }
            None => {
                missing.push(name.clone());
                None
            }
        };
        let mut networks = Vec::new();
        for network in wanted.networks {
            if let Some(link) = find(&network.bridge) {
                networks.push((network, link.ifindex));
            }
        }
        let uplinks = match &config.uplinks {
            Uplinks::Named(names) => names.iter().filter_map(find).collect(),
            Uplinks::Auto => auto_uplinks(&networks, &host, uplinks),
        };
        Self {
            endpoints: endpoints::find(&networks, &host),
            networks,
            publications: wanted.publications,
            uplinks,
            partial: wanted.partial,
            missing,
            unfit,
            host,
        }
    }

    /// The programs that this needs on interfaces: on the endpoints' ports too, where packets may be sent on
    /// from there.
    #[must_use]
    pub fn hooks(&self, fast: bool) -> BTreeSet<Hook> {
        let uplinks = self
            .uplinks
            .iter()
            .map(|link| (link.name.as_str(), link.ifindex, Role::Uplink));
        let bridges = self
            .networks
            .iter()
            .map(|(net, index)| (net.bridge.as_str(), *index, Role::Bridge));
        let ports = self
            .host
            .links
            .iter()
            .filter(|link| fast && endpoints::is_port(&self.networks, link))
            .map(|link| (link.name.as_str(), link.ifindex, Role::Port));
        uplinks
            .chain(bridges)
            .chain(ports)
            .flat_map(|(name, index, role)| attach::hooks(name, index, role))
            .collect()
    }

    /// Whether all of these changes come from what is desired, where `before` was in force.
    #[must_use]
    pub fn explains(&self, changes: &Changes, before: &Self) -> bool {
        let ports = changes.published + changes.withdrawn > 0;
        let same_network = self.networks == before.networks
            && self.uplinks == before.uplinks
            && self.host.addresses == before.host.addresses
            && self.host.routes == before.host.routes;
        !(ports && self.publications == before.publications
            || changes.network > 0 && same_network
            || changes.endpoints > 0 && self.endpoints == before.endpoints)
    }

    /// An uplink's addresses, the one that the kernel would use by default first.
    fn addresses(&self, ifindex: u32) -> Vec<(IpAddr, u8)> {
        let mut addresses: Vec<_> = self
            .host
            .addresses
            .iter()
            .filter(|address| address.ifindex == ifindex && address.preferred)
            .map(|address| (address.addr, address.prefix))
            .collect();
        let gateways: Vec<_> = self
            .host
            .routes
            .iter()
            .filter(|route| route.ifindex == ifindex)
            .filter_map(|route| route.gateway)
            .collect();
        // Stable: among equals the kernel's own order stays.
        addresses.sort_by_key(|(addr, prefix)| {
            let net = ipnet::IpNet::new(*addr, *prefix);
            !net.is_ok_and(|net| gateways.iter().any(|gateway| net.contains(gateway)))
        });
        addresses
    }
}

/// The interfaces that routes outside the networks use. Those without an Ethernet header are left out.
///
/// One that is down has no routes. Where it was an uplink `before` and has its address yet it stays one: else its first
/// packets, when it is up again, would find no program, and the host would reset the connections that they are of.
fn auto_uplinks(networks: &[(Network, u32)], host: &Host, before: &[Link]) -> Vec<Link> {
    let bridge = |ifindex: u32| networks.iter().any(|(_, index)| *index == ifindex);
    let routed = |ifindex: u32| host.routes.iter().any(|route| route.ifindex == ifindex);
    let was = |ifindex: u32| before.iter().any(|link| link.ifindex == ifindex);
    let has_address = |ifindex: u32| {
        let mut addresses = host.addresses.iter();
        addresses.any(|address| address.ifindex == ifindex && address.preferred)
    };
    host.links
        .iter()
        .filter(|link| link.ethernet && link.master.is_none() && !bridge(link.ifindex))
        // One that the engine has just made, or is about to remove, is in none of its networks.
        .filter(|link| !is_own_bridge(&link.name))
        .filter(|link| {
            let ifindex = link.ifindex;
            routed(ifindex) || was(ifindex) && has_address(ifindex)
        })
        .cloned()
        .collect()
}

/// Writes the settings, where others are in force. Says whether there were.
///
/// # Errors
/// When the map cannot be read or written.
pub fn settings(tables: &Tables, config: &Config, ways: &Ways) -> Result<bool> {
    let mut flags = 0;
    for (on, flag) in [
        (ways.ipv4.fast, Settings::FAST4),
        (ways.ipv6.fast, Settings::FAST6),
        (ways.nat64.on, Settings::NAT64),
        (ways.beside, Settings::BESIDE),
        (ways.source_check, Settings::SOURCE_CHECK),
        (config.nat.independent_tcp, Settings::INDEPENDENT_TCP),
        (config.nat.independent_udp, Settings::INDEPENDENT_UDP),
        (config.nat.independent_icmp, Settings::INDEPENDENT_ICMP),
    ] {
        if on {
            flags |= flag;
        }
    }
    let settings = Settings {
        timeouts: config.conntrack.timeouts,
        ports: config.nat.ports,
        flags,
        netns: netns::cookie().context("the network namespace's cookie (Linux 5.14 or later)")?,
        flows_per_endpoint: config.conntrack.max_flows_per_endpoint,
        zero: 0,
        count_patience: census::patience(config.conntrack.gc_interval),
    };
    let mut map = tables.settings()?;
    if map.get(&0, 0)? == settings {
        return Ok(false);
    }
    map.set(0, settings, 0)?;
    Ok(true)
}

/// Refuses a configuration that names interfaces that do not exist.
///
/// # Errors
/// Names the first of them, and the remedy.
pub fn require_interfaces(config: &Config, host: &Host) -> Result<()> {
    if let Uplinks::Named(names) = &config.uplinks {
        for name in names {
            match host.link(name) {
                None => bail!(
                    "uplinks: \"{name}\": no such interface in this network namespace; `ip link` lists them"
                ),
                Some(link) if !link.ethernet => bail!(
                    "uplinks: \"{name}\": frames on it have no Ethernet header, which is not supported yet"
                ),
                Some(_) => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_ethernet_header_is_left_alone_and_told() {
        let link = |name: &str, ifindex, ethernet| Link {
            name: name.to_owned(),
            ifindex,
            ethernet,
            master: None,
            mac: None,
            leads_elsewhere: false,
            isolated: false,
            vlan_of: None,
            frames: crate::sources::netlink::Frames::default(),
        };
        let host = Host {
            links: vec![link("eth0", 2, true), link("wg0", 3, false)],
            ..Host::default()
        };
        let config = Config {
            uplinks: Uplinks::Named(["eth0", "wg0", "eth1"].map(str::to_owned).to_vec()),
            ..Config::default()
        };
        let desired = Desired::new(&config, Wanted::default(), host, &[]);
        let attached: Vec<_> = desired.uplinks.iter().map(|link| &link.name).collect();
        assert_eq!(attached, ["eth0"]);
        assert_eq!(
            (desired.unfit, desired.missing),
            (vec!["wg0".to_owned()], vec!["eth1".to_owned()])
        );
    }
}
