//! The maps as typed tables: the service and the reading commands use the same.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{Array, DevMapHash, HashMap, LpmTrie, Map, MapData, PerCpuArray, RingBuf, lpm_trie},
};
use datapath_common::{
    allow::{AllowKey, LIST_BITS},
    binding::{Binding, BindingKey, BindingStats},
    conntrack::Flow,
    event::{Monitor, Written},
    family::{Addr4, Addr6, Address as _, Family, V4, V6},
    fragment::{FragmentKey, FragmentNote},
    host::{Peer, PeerKey},
    limit::{Held, Opened},
    mapping::{Mapping, MappingKey},
    names::maps as names,
    network::{LocalAddress, Network},
    reason::ReasonCount,
    settings::{Settings, slots},
    tuple::Tuple,
    unpublished::Unpublished,
    uplink::UplinkAddresses,
    way::{Cards, Endpoint, Hop, HopKey},
};
use ipnet::IpNet;

use super::{batch::Batched, life::Tier, pins};

/// One set of maps.
#[derive(Clone, Debug)]
pub struct Tables {
    place: Place,
}

/// Where maps are found by name.
#[derive(Clone, Debug)]
enum Place {
    /// Pinned in a directory.
    Pins(PathBuf),
    /// Pinned nowhere: the kernel's numbers for them.
    Ids(BTreeMap<String, u32>),
}

/// A family whose keys and values can be read from and written to maps.
pub trait Tabled: Family<Addr: Pod> {
    /// This family's bindings.
    const BINDINGS: &'static str;
    /// Networks of its allow-lists.
    const ALLOWED: &'static str;
    /// Its established flows.
    const FLOWS: &'static str;
    /// Its half-open flows.
    const HALF: &'static str;
    /// Its endpoint-independent mappings.
    const MAPPINGS: &'static str;
    /// Its fragmented datagrams under way.
    const FRAGMENTS: &'static str;
    /// Its networks.
    const NETWORKS: &'static str;
    /// The host's addresses.
    const LOCALS: &'static str;
    /// The uplinks' addresses.
    const UPLINKS: &'static str;
    /// The endpoints.
    const ENDPOINTS: &'static str;
    /// The next hops.
    const HOPS: &'static str;
    /// What processes of the host dialled.
    const PEERS: &'static str;
    /// How many flows endpoints have opened.
    const OPENED: &'static str;
    /// How many they had when that was counted.
    const HELD: &'static str;
    /// The address that a binding of this family leads to: an IPv4 endpoint behind an IPv6 port is mapped.
    fn target(ip: IpAddr) -> Option<Self::Addr>;
    /// The address of a subnet and its prefix length, if it is of this family.
    fn subnet(net: &IpNet) -> Option<(Self::Addr, u32)> {
        let addr = Self::Addr::from_ip(net.network())?;
        Some((addr, u32::from(net.prefix_len())))
    }
}

impl Tabled for V4 {
    const BINDINGS: &'static str = names::BINDINGS4;
    const ALLOWED: &'static str = names::ALLOWED4;
    const FLOWS: &'static str = names::FLOWS4;
    const HALF: &'static str = names::HALF4;
    const MAPPINGS: &'static str = names::MAPPINGS4;
    const FRAGMENTS: &'static str = names::FRAGMENTS4;
    const NETWORKS: &'static str = names::NETWORKS4;
    const LOCALS: &'static str = names::LOCALS4;
    const UPLINKS: &'static str = names::UPLINKS4;
    const ENDPOINTS: &'static str = names::ENDPOINTS4;
    const HOPS: &'static str = names::HOPS4;
    const PEERS: &'static str = names::PEERS4;
    const OPENED: &'static str = names::OPENED4;
    const HELD: &'static str = names::HELD4;

    fn target(ip: IpAddr) -> Option<Self::Addr> {
        Addr4::from_ip(ip)
    }
}

impl Tabled for V6 {
    const BINDINGS: &'static str = names::BINDINGS6;
    const ALLOWED: &'static str = names::ALLOWED6;
    const FLOWS: &'static str = names::FLOWS6;
    const HALF: &'static str = names::HALF6;
    const MAPPINGS: &'static str = names::MAPPINGS6;
    const FRAGMENTS: &'static str = names::FRAGMENTS6;
    const NETWORKS: &'static str = names::NETWORKS6;
    const LOCALS: &'static str = names::LOCALS6;
    const UPLINKS: &'static str = names::UPLINKS6;
    const ENDPOINTS: &'static str = names::ENDPOINTS6;
    const HOPS: &'static str = names::HOPS6;
    const PEERS: &'static str = names::PEERS6;
    const OPENED: &'static str = names::OPENED6;
    const HELD: &'static str = names::HELD6;

    fn target(ip: IpAddr) -> Option<Self::Addr> {
        match ip {
            IpAddr::V4(v4) => Some(Addr6::from_mapped(Addr4(v4.octets()))),
            IpAddr::V6(_) => Addr6::from_ip(ip),
        }
    }
}

/// A hash map of ours.
pub type Table<K, V> = HashMap<MapData, K, V>;

/// The networks of the allow-lists. The value says nothing.
pub type Allowed<F> = LpmTrie<MapData, AllowKey<F>, u32>;

/// A map for thousands of entries at a time, and for each.
pub type Both<K, V> = (Batched<K, V>, Table<K, V>);

/// What belongs to the events of dropped packets.
pub type Telling = (
    RingBuf<MapData>,
    Array<MapData, Monitor>,
    PerCpuArray<MapData, Written>,
);

impl Tables {
    /// The maps pinned below `pin_dir`, which may or may not be there.
    #[must_use]
    pub fn new(pin_dir: &Path) -> Self {
        Self {
            place: Place::Pins(pins::maps(pin_dir)),
        }
    }

    /// Maps that somebody else holds, by the kernel's numbers for them.
    #[must_use]
    pub const fn unpinned(ids: BTreeMap<String, u32>) -> Self {
        Self {
            place: Place::Ids(ids),
        }
    }

    /// Whether they are there.
    #[must_use]
    pub fn exist(&self) -> bool {
        match &self.place {
            Place::Pins(dir) => dir.join(names::SETTINGS).exists(),
            Place::Ids(ids) => ids.contains_key(names::SETTINGS),
        }
    }

    /// A map by name.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn data(&self, name: &str) -> Result<MapData> {
        let data = match &self.place {
            Place::Pins(dir) => MapData::from_pin(dir.join(name)),
            Place::Ids(ids) => {
                let id = ids
                    .get(name)
                    .with_context(|| format!("map {name}: not there"))?;
                MapData::from_id(*id)
            }
        };
        data.with_context(|| format!("map {name}"))
    }

    fn hash<K: Pod, V: Pod>(&self, name: &str) -> Result<Table<K, V>> {
        let data = self.data(name)?;
        // An LRU map is a hash map to whoever reads it.
        let map = Map::from_map_data(data)?;
        HashMap::try_from(map).with_context(|| format!("map {name}: of another shape"))
    }

    /// The bindings of a family: for thousands at a time, and for each.
    ///
    /// # Errors
    /// When the map is not there, or of another shape. So with the others below.
    pub fn bindings<F: Tabled>(&self) -> Result<Both<BindingKey<F>, Binding<F>>> {
        self.both(F::BINDINGS)
    }

    /// The networks of the allow-lists.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn allowed<F: Tabled>(&self) -> Result<Allowed<F>> {
        let map = Map::from_map_data(self.data(F::ALLOWED)?)?;
        LpmTrie::try_from(map).context("map of allow-lists: of another shape")
    }

    /// The flows of one tier.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn tier<F: Tabled>(&self, tier: Tier) -> Result<Table<Tuple<F>, Flow<F>>> {
        self.hash(tier.map::<F>())
    }

    /// The flows of one tier, for thousands at a time.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn batched<F: Tabled>(&self, tier: Tier) -> Result<Batched<Tuple<F>, Flow<F>>> {
        Batched::new(self.data(tier.map::<F>())?)
    }

    /// What processes of the host dialled, for thousands at a time.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn peers<F: Tabled>(&self) -> Result<Batched<PeerKey<F>, Peer<F>>> {
        Batched::new(self.data(F::PEERS)?)
    }

    /// The endpoint-independent mappings, likewise.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn mappings<F: Tabled>(&self) -> Result<Both<MappingKey<F>, Mapping<F>>> {
        self.both(F::MAPPINGS)
    }

    /// The fragmented datagrams under way, likewise.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn fragments<F: Tabled>(&self) -> Result<Both<FragmentKey<F>, FragmentNote<F>>> {
        self.both(F::FRAGMENTS)
    }

    fn both<K: Pod, V: Pod>(&self, name: &str) -> Result<Both<K, V>> {
        Ok((Batched::new(self.data(name)?)?, self.hash(name)?))
    }

    /// The networks.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn networks<F: Tabled>(&self) -> Result<LpmTrie<MapData, F::Addr, Network>> {
        let map = Map::from_map_data(self.data(F::NETWORKS)?)?;
        LpmTrie::try_from(map).context("map of networks: of another shape")
    }

    /// The host's addresses, likewise.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn locals<F: Tabled>(&self) -> Result<Both<F::Addr, LocalAddress>> {
        self.both(F::LOCALS)
    }

    /// The uplinks' addresses, likewise.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn uplinks<F: Tabled>(&self) -> Result<Both<u32, UplinkAddresses<F>>> {
        self.both(F::UPLINKS)
    }

    /// The endpoints, likewise.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn endpoints<F: Tabled>(&self) -> Result<Both<F::Addr, Endpoint>> {
        self.both(F::ENDPOINTS)
    }

    /// How many flows endpoints have opened.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn opened<F: Tabled>(&self) -> Result<Table<F::Addr, Opened>> {
        self.hash(F::OPENED)
    }

    /// How many they had when that was counted.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn held<F: Tabled>(&self) -> Result<Table<F::Addr, Held>> {
        self.hash(F::HELD)
    }

    /// The next hops, likewise.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn hops<F: Tabled>(&self) -> Result<Both<HopKey<F>, Hop>> {
        self.both(F::HOPS)
    }

    /// The ports that take frames from the driver's level.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn frame_ports(&self) -> Result<DevMapHash<MapData>> {
        let map = Map::from_map_data(self.data(names::FRAME_PORTS)?)?;
        Ok(DevMapHash::try_from(map)?)
    }

    /// The uplinks' Ethernet addresses.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn cards(&self) -> Result<Array<MapData, Cards>> {
        let map = Map::from_map_data(self.data(names::CARDS)?)?;
        Ok(Array::try_from(map)?)
    }

    /// Which ports are published nowhere.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn unpublished(&self) -> Result<Array<MapData, Unpublished>> {
        let map = Map::from_map_data(self.data(names::UNPUBLISHED)?)?;
        Ok(Array::try_from(map)?)
    }

    /// The settings.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn settings(&self) -> Result<Array<MapData, Settings>> {
        let map = Map::from_map_data(self.data(names::SETTINGS)?)?;
        Ok(Array::try_from(map)?)
    }

    /// The generations.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn generations(&self) -> Result<Batched<u32, u32>> {
        Batched::new(self.data(names::GENERATIONS)?)
    }

    /// The generations as they are now, by slot.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn read_generations(&self) -> Result<Vec<u32>> {
        let mut all = vec![0; slots::TOTAL as usize];
        self.generations()?.scan(|slots, values| {
            for (slot, value) in slots.iter().zip(values) {
                if let Some(place) = all.get_mut(*slot as usize) {
                    *place = *value;
                }
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// The counters by reason.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn reasons(&self) -> Result<PerCpuArray<MapData, ReasonCount>> {
        let map = Map::from_map_data(self.data(names::REASONS)?)?;
        Ok(PerCpuArray::try_from(map)?)
    }

    /// The events of dropped packets, who listens, and how many there were.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn events(&self) -> Result<Telling> {
        let map = |name| -> Result<Map> { Ok(Map::from_map_data(self.data(name)?)?) };
        Ok((
            RingBuf::try_from(map(names::EVENTS)?)?,
            Array::try_from(map(names::MONITOR)?)?,
            PerCpuArray::try_from(map(names::WRITTEN)?)?,
        ))
    }

    /// The counters of the bindings.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn binding_stats(&self) -> Result<PerCpuArray<MapData, BindingStats>> {
        let map = Map::from_map_data(self.data(names::BINDING_STATS)?)?;
        Ok(PerCpuArray::try_from(map)?)
    }

    /// How many entries a map may hold.
    #[expect(clippy::missing_errors_doc, reason = "as `bindings`")]
    pub fn max_entries(&self, name: &str) -> Result<u32> {
        Ok(self.data(name)?.info()?.max_entries())
    }
}

/// The key of a network of an allow-list.
#[must_use]
pub fn allow_key<F: Tabled>(list: u32, addr: F::Addr, bits: u32) -> lpm_trie::Key<AllowKey<F>> {
    lpm_trie::Key::new(LIST_BITS + bits, AllowKey { list, addr })
}

/// The key of a subnet.
#[must_use]
pub fn subnet_key<F: Tabled>(addr: F::Addr, bits: u32) -> lpm_trie::Key<F::Addr> {
    lpm_trie::Key::new(bits, addr)
}
