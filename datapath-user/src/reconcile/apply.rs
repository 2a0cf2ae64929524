//! One family's maps, brought to what is desired.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::AddAssign,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Pod,
    maps::{LpmTrie, MapData, PerCpuArray},
    util::nr_cpus,
};
use datapath_common::{
    allow::{EVERYBODY, NOBODY},
    binding::{Binding, BindingKey, BindingStats, OWNER_LEN},
    family::{Addr4, Address as _},
    network::{LocalAddress, Network},
    settings::slots as ranges,
    uplink::{MAX_ADDRESSES, UplinkAddress, UplinkAddresses},
    way::{Endpoint, MAX_ENDPOINTS},
};
use ipnet::IpNet;

use super::{
    Desired,
    allow::Lists,
    slots::{Generations, Slots, SlotsOfBoth},
};
use crate::{
    kernel::tables::{Table, Tabled, Tables, subnet_key},
    model::{AllowList, Publication},
};

/// How much a reconciliation changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Ports published, or led elsewhere.
    pub published: usize,
    /// Ports withdrawn.
    pub withdrawn: usize,
    /// Entries of networks, addresses and uplinks written or removed.
    pub network: usize,
    /// Entries of endpoints written or removed.
    pub endpoints: usize,
}

impl AddAssign for Changes {
    fn add_assign(&mut self, other: Self) {
        self.published += other.published;
        self.withdrawn += other.withdrawn;
        self.network += other.network;
        self.endpoints += other.endpoints;
    }
}

/// One family's maps, and what they held in the beginning.
pub(super) struct Side<F: Tabled> {
    bindings: Table<BindingKey<F>, Binding<F>>,
    lists: Lists<F>,
    networks: LpmTrie<MapData, F::Addr, Network>,
    locals: Table<F::Addr, LocalAddress>,
    uplinks: Table<u32, UplinkAddresses<F>>,
    endpoints: Table<F::Addr, Endpoint>,
    stats: PerCpuArray<MapData, BindingStats>,
    held: Held<F>,
}

/// What maps of hashes hold.
struct Held<F: Tabled> {
    bindings: BTreeMap<BindingKey<F>, Binding<F>>,
    locals: BTreeMap<F::Addr, LocalAddress>,
    uplinks: BTreeMap<u32, UplinkAddresses<F>>,
    endpoints: BTreeMap<F::Addr, Endpoint>,
}

type Wanted<'a, F> = BTreeMap<BindingKey<F>, &'a Publication>;

impl<F: Tabled> Side<F> {
    pub(super) fn open(tables: &Tables) -> Result<Self> {
        Ok(Self {
            bindings: tables.bindings::<F>()?,
            lists: Lists::read(tables).context("the allow-lists")?,
            networks: tables.networks::<F>()?,
            locals: tables.locals::<F>()?,
            uplinks: tables.uplinks::<F>()?,
            endpoints: tables.endpoints::<F>()?,
            stats: tables.binding_stats()?,
            held: Held {
                bindings: tables.all_bindings::<F>()?,
                locals: tables.all_locals::<F>()?,
                uplinks: tables.all_uplinks::<F>()?,
                endpoints: tables.all_endpoints::<F>()?,
            },
        })
    }

    /// The slots of generations that its bindings and addresses have.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        let bindings = self.held.bindings.values().map(|binding| binding.slot);
        bindings.chain(self.held.locals.values().map(|local| local.slot))
    }

    /// Withdraws first and publishes last: no moment shows a port open that is in neither state.
    /// Ports whose allow-list became another are told in `narrowed`, by slot.
    pub(super) fn reconcile(
        &mut self,
        desired: &Desired,
        slots: &mut SlotsOfBoth,
        generations: &mut Generations,
        narrowed: &mut BTreeMap<u32, AllowList>,
    ) -> Result<Changes> {
        let wanted = Self::wanted(desired);
        let mut changes = Changes {
            withdrawn: self.withdraw(&wanted, generations)?,
            ..Changes::default()
        };
        changes.network += self
            .locals(desired, &mut slots.addresses, generations)
            .context("the host's addresses")?;
        changes.network += self.uplinks(desired).context("the uplinks' addresses")?;
        changes.network += self.networks(desired).context("the networks")?;
        changes.endpoints += self.endpoints(desired).context("the endpoints")?;
        changes.published = self
            .publish(&wanted, &mut slots.bindings, generations, narrowed)
            .context("the published ports")?;
        Ok(changes)
    }

    fn wanted(desired: &Desired) -> Wanted<'_, F> {
        let mut wanted = BTreeMap::new();
        for publication in &desired.publications {
            let listen = &publication.listen;
            if let Some(addr) = F::Addr::from_ip(listen.addr) {
                let key = BindingKey::new(addr, listen.port, listen.protocol.number());
                wanted.entry(key).or_insert(publication);
            }
        }
        wanted
    }

    fn withdraw(&mut self, wanted: &Wanted<'_, F>, generations: &mut Generations) -> Result<usize> {
        let mut withdrawn = 0;
        for (key, binding) in &self.held.bindings {
            if !wanted.contains_key(key) {
                // No new flow first, then the end of the old ones: none slips between.
                self.bindings.remove(key)?;
                generations.raise(binding.slot)?;
                withdrawn += 1;
            }
        }
        Ok(withdrawn)
    }

    /// A port whose list cannot be written is closed, and the others are published all the same.
    fn publish(
        &mut self,
        wanted: &Wanted<'_, F>,
        slots: &mut Slots,
        generations: &mut Generations,
        narrowed: &mut BTreeMap<u32, AllowList>,
    ) -> Result<usize> {
        let mut published = 0;
        let mut named = BTreeSet::new();
        let mut failed = Ok(());
        for (key, publication) in wanted {
            let Some(to) = F::target(publication.to) else {
                continue;
            };
            let old = self.held.bindings.get(key).copied();
            let allow = match self.lists.number(publication.allow.as_ref()) {
                Ok(number) => number,
                Err(error) => {
                    failed = Err(error.context(publication.listen.to_string()));
                    NOBODY
                }
            };
            named.insert(allow);
            // One that leads elsewhere gets another slot with its new place, in one step: whatever ends this
            // service afterwards, no flow to the former place bears the generation of a slot that is in use.
            let moved = old.is_some_and(|old| (old.to, old.port) != (to, publication.to_port));
            let slot = match old {
                Some(old) if !moved => old.slot,
                Some(old) => slots.take().unwrap_or(old.slot),
                None => slots.take()?,
            };
            let binding = Binding {
                to,
                port: publication.to_port,
                source: publication.source as u8,
                flags: 0,
                slot,
                allow,
                owner: owner(&publication.owner),
            };
            if old == Some(binding) {
                continue;
            }
            if old.is_none_or(|old| old.slot != slot) {
                self.count_anew(slot, old.map(|old| old.slot))?;
            }
            self.bindings.insert(key, binding, 0)?;
            if let Some(old) = old.filter(|_| moved) {
                generations.raise(old.slot)?;
            }
            if allow != EVERYBODY && old.is_some_and(|old| old.allow != allow) {
                let list = publication.allow.clone();
                narrowed.insert(slot, list.filter(|_| allow != NOBODY).unwrap_or_default());
            }
            published += 1;
        }
        self.lists.sweep(&named)?;
        failed.map(|()| published)
    }

    /// A slot's counters go on from those of the slot that its port had before, or from nothing.
    fn count_anew(&mut self, slot: u32, before: Option<u32>) -> Result<()> {
        let counts = match before {
            Some(before) => self.stats.get(&before, 0)?,
            None => {
                let cpus = nr_cpus().map_err(|(file, error)| anyhow!("{file}: {error}"))?;
                vec![BindingStats::default(); cpus].try_into()?
            }
        };
        Ok(self.stats.set(slot, counts, 0)?)
    }

    fn locals(
        &mut self,
        desired: &Desired,
        slots: &mut Slots,
        generations: &mut Generations,
    ) -> Result<usize> {
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
                self.locals.remove(addr)?;
                generations.raise(local.slot)?;
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
                None => slots.take()?,
            };
            self.locals.insert(
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
                let Ok(local) = self.locals.get(&addr, 0) else {
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
        sync(&mut self.uplinks, &self.held.uplinks, &wanted)
    }

    fn endpoints(&mut self, desired: &Desired) -> Result<usize> {
        let wanted = desired
            .endpoints
            .iter()
            .filter_map(|(ip, endpoint)| Some((F::Addr::from_ip(*ip)?, *endpoint)))
            .take(MAX_ENDPOINTS as usize)
            .collect();
        sync(&mut self.endpoints, &self.held.endpoints, &wanted)
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

fn flags(network: &crate::model::Network) -> u32 {
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

fn owner(text: &str) -> [u8; OWNER_LEN] {
    let mut bytes = [0; OWNER_LEN];
    for (byte, from) in bytes.iter_mut().zip(text.bytes()) {
        *byte = from;
    }
    bytes
}
