//! One family's maps, brought to what is desired.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{LpmTrie, MapData},
};
use datapath_common::{
    family::{Addr4, Address as _},
    network::{LocalAddress, Network},
    settings::slots as ranges,
    uplink::{MAX_ADDRESSES, UplinkAddress, UplinkAddresses},
    way::{Endpoint, MAX_ENDPOINTS},
};
use ipnet::IpNet;

use super::{
    Desired,
    maps::{Changes, Shared},
    ports::{self, Ports},
};
use crate::kernel::tables::{Both, Table, Tabled, Tables, subnet_key};

/// One family's maps, and what they held when they were looked at.
pub(super) struct Side<F: Tabled> {
    pub(super) ports: Ports<F>,
    networks: LpmTrie<MapData, F::Addr, Network>,
    locals: Both<F::Addr, LocalAddress>,
    uplinks: Both<u32, UplinkAddresses<F>>,
    endpoints: Both<F::Addr, Endpoint>,
    held: Held<F>,
}

/// What maps of hashes hold.
struct Held<F: Tabled> {
    locals: BTreeMap<F::Addr, LocalAddress>,
    uplinks: BTreeMap<u32, UplinkAddresses<F>>,
    endpoints: BTreeMap<F::Addr, Endpoint>,
}

impl<F: Tabled> Side<F> {
    pub(super) fn open(tables: &Tables) -> Result<Self> {
        let locals = tables.locals::<F>()?;
        let uplinks = tables.uplinks::<F>()?;
        let endpoints = tables.endpoints::<F>()?;
        Ok(Self {
            ports: Ports::open(tables)?,
            networks: tables.networks::<F>()?,
            held: Held {
                locals: locals.0.entries()?,
                uplinks: uplinks.0.entries()?,
                endpoints: endpoints.0.entries()?,
            },
            locals,
            uplinks,
            endpoints,
        })
    }

    /// Looks at all that they hold.
    pub(super) fn look(&mut self) -> Result<()> {
        self.ports.look()?;
        self.held = Held {
            locals: self.locals.0.entries()?,
            uplinks: self.uplinks.0.entries()?,
            endpoints: self.endpoints.0.entries()?,
        };
        Ok(())
    }

    /// The slots of generations that its ports and addresses have.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        let locals = self.held.locals.values();
        self.ports.slots().chain(locals.map(|local| local.slot))
    }

    /// Withdraws first and publishes last: no moment shows a port open that is in neither state.
    pub(super) fn reconcile(&mut self, desired: &Desired, shared: &mut Shared) -> Result<Changes> {
        let publications = desired.publications.values();
        let wanted = publications
            .filter_map(|port| Some((ports::key::<F>(&port.listen)?, port)))
            .collect();
        let mut changes = Changes {
            withdrawn: self.ports.withdraw_others(&wanted, shared)?,
            ..Changes::default()
        };
        changes.network += self
            .locals(desired, shared)
            .context("the host's addresses")?;
        changes.network += self.uplinks(desired).context("the uplinks' addresses")?;
        shared.end_gone()?;
        changes.network += self.networks(desired).context("the networks")?;
        changes.endpoints += self.endpoints(desired).context("the endpoints")?;
        changes.published = self
            .ports
            .publish(&wanted, shared)
            .context("the published ports")?;
        Ok(changes)
    }

    fn locals(&mut self, desired: &Desired, shared: &mut Shared) -> Result<usize> {
        let mut wanted = BTreeMap::new();
        for address in &desired.host.addresses {
            if let Some(addr) = F::Addr::from_ip(address.addr) {
                wanted.insert(addr, address.ifindex);
            }
        }
        let present = &self.held.locals;
        let mut changed = 0;
        for (addr, local) in present {
            if !wanted.contains_key(addr) {
                self.locals.1.remove(addr)?;
                shared.gone.push(local.slot);
                changed += 1;
            }
        }
        for (addr, ifindex) in wanted {
            let old = present.get(&addr);
            if old.is_some_and(|old| old.ifindex == ifindex) {
                continue;
            }
            let slot = match old {
                Some(old) => old.slot,
                None => shared.slots.addresses.take()?,
            };
            self.locals.1.insert(
                addr,
                LocalAddress {
                    ifindex,
                    slot,
                    flags: 0,
                },
                0,
            )?;
            changed += 1;
        }
        Ok(changed)
    }

    fn uplinks(&mut self, desired: &Desired) -> Result<usize> {
        let mut wanted = BTreeMap::new();
        for link in &desired.uplinks {
            let mut value = UplinkAddresses {
                count: 0,
                addrs: [UplinkAddress::NONE; MAX_ADDRESSES],
            };
            for (ip, prefix) in desired.addresses(link.ifindex) {
                let Some(addr) = F::Addr::from_ip(ip) else {
                    continue;
                };
                let Ok(local) = self.locals.1.get(&addr, 0) else {
                    continue;
                };
                let Some(place) = value.addrs.get_mut(value.count as usize) else {
                    break;
                };
                *place = UplinkAddress {
                    addr,
                    prefix: u32::from(prefix),
                    slot: local.slot,
                };
                value.count += 1;
            }
            wanted.insert(link.ifindex, value);
        }
        sync(&mut self.uplinks.1, &self.held.uplinks, &wanted)
    }

    fn endpoints(&mut self, desired: &Desired) -> Result<usize> {
        let wanted = desired
            .endpoints
            .iter()
            .filter_map(|(ip, endpoint)| Some((F::Addr::from_ip(*ip)?, *endpoint)))
            .take(MAX_ENDPOINTS as usize)
            .collect();
        sync(&mut self.endpoints.1, &self.held.endpoints, &wanted)
    }

    fn networks(&mut self, desired: &Desired) -> Result<usize> {
        let mut wanted = BTreeMap::new();
        for (network, bridge) in &desired.networks {
            for net in &network.subnets {
                if let Some(subnet) = F::subnet(net) {
                    let value = Network {
                        bridge: *bridge,
                        flags: flags(network),
                        slot: ranges::NOBODY,
                        gateway: gateway(desired, net, *bridge),
                    };
                    wanted.insert(subnet, value);
                }
            }
        }
        let present = self.networks.iter().collect::<Result<Vec<_>, _>>()?;
        let present: BTreeMap<_, _> = present
            .into_iter()
            .map(|(key, value)| ((key.data(), key.prefix_len()), value))
            .collect();
        let mut changed = 0;
        let kept = |subnet: &&_| desired.partial || wanted.contains_key(*subnet);
        for (addr, bits) in present.keys().filter(|subnet| !kept(subnet)) {
            self.networks.remove(&subnet_key::<F>(*addr, *bits))?;
            changed += 1;
        }
        for (subnet, value) in wanted {
            if present.get(&subnet) != Some(&value) {
                self.networks
                    .insert(&subnet_key::<F>(subnet.0, subnet.1), value, 0)?;
                changed += 1;
            }
        }
        Ok(changed)
    }
}

/// Makes a map hold what is wanted, and says how many entries had to be written or removed.
fn sync<K: Pod + Ord, V: Pod + PartialEq>(
    table: &mut Table<K, V>,
    present: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
) -> Result<usize> {
    let mut changed = 0;
    for key in present.keys().filter(|key| !wanted.contains_key(key)) {
        table.remove(key)?;
        changed += 1;
    }
    for (key, value) in wanted {
        if present.get(key) != Some(value) {
            table.insert(key, value, 0)?;
            changed += 1;
        }
    }
    Ok(changed)
}

/// The first IPv4 address that a bridge has in a subnet.
fn gateway(desired: &Desired, subnet: &IpNet, bridge: u32) -> Addr4 {
    let mut addresses = desired.host.addresses.iter();
    let found = addresses.find(|address| {
        address.ifindex == bridge && address.addr.is_ipv4() && subnet.contains(&address.addr)
    });
    found
        .and_then(|address| Addr4::from_ip(address.addr))
        .unwrap_or(Addr4::UNSPECIFIED)
}

pub(super) fn flags(network: &crate::model::Network) -> u32 {
    [
        (network.masquerade, Network::MASQUERADE),
        (network.internal, Network::INTERNAL),
        (network.icc, Network::ICC),
        (network.routed, Network::ROUTED),
        (network.icmp, Network::ICMP),
    ]
    .iter()
    .filter(|(on, _)| *on)
    .fold(0, |flags, (_, flag)| flags | flag)
}
