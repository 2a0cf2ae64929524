//! Every map: its key, its value, its bound, and what happens when it is full.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, DevMapHash, HashMap, LpmTrie, LruHashMap, PerCpuArray},
    macros::btf_map,
};
use datapath_common::{
    allow::{AllowKey, MAX_ALLOWED},
    binding::{Binding, BindingKey, BindingStats, MAX_BINDINGS},
    conntrack::Flow,
    family::{Family, V4, V6},
    fragment::{FragmentKey, FragmentNote},
    host::{MAX_PEERS, Peer, PeerKey},
    limit::{Held, Opened},
    mapping::{Mapping, MappingKey},
    network::{LocalAddress, Network},
    reason::{Reason, ReasonCount},
    settings::{Settings, slots},
    shown::{self, Shown},
    tuple::{Endpoints, Tuple},
    unpublished::Unpublished,
    uplink::{UplinkAddress, UplinkAddresses},
    way::{Cards, Endpoint, Hop, HopKey, MAX_ENDPOINTS, MAX_HOPS, Mac},
};

use crate::{
    flow::Opening,
    nat::nat64::error::Crossing,
    packet::Piece,
    parse::{Headers, Quoted},
};

/// Memory is taken entry by entry: a map costs what it holds.
const LAZY: usize = BPF_F_NO_PREALLOC as usize;
/// Two entries a flow. The service sets the bounds from `[conntrack] max_flows`; these are the defaults.
const FLOWS: usize = 524_288;
const HALF: usize = 131_072;
const MAPPINGS: usize = 131_072;
const FRAGMENTS: usize = 4_096;
const NETWORKS: usize = slots::MAX_NETWORKS as usize;
const ADDRESSES: usize = slots::MAX_ADDRESSES as usize;
const UPLINKS: usize = 256;
/// One more than there are endpoints: those that are not known share one.
const ACCOUNTS: usize = MAX_ENDPOINTS as usize + 1;
const BINDINGS: usize = MAX_BINDINGS as usize;
/// The slots' bindings come first, and slot 0 is nobody's.
const BINDING_SLOTS: usize = slots::ADDRESSES as usize;

type Flows<F> = HashMap<Tuple<F>, Flow<F>, FLOWS, LAZY>;
type Half<F> = LruHashMap<Tuple<F>, Flow<F>, HALF>;
type Bindings<F> = HashMap<BindingKey<F>, Binding<F>, BINDINGS, LAZY>;
type Allowed<F> = LpmTrie<AllowKey<F>, u32, { MAX_ALLOWED as usize }>;
type Mappings<F> = LruHashMap<MappingKey<F>, Mapping<F>, MAPPINGS>;
type Fragments<F> = LruHashMap<FragmentKey<F>, FragmentNote<F>, FRAGMENTS>;
type Networks<F> = LpmTrie<<F as Family>::Addr, Network, NETWORKS>;
type Locals<F> = HashMap<<F as Family>::Addr, LocalAddress, ADDRESSES, LAZY>;
type Uplinks<F> = HashMap<u32, UplinkAddresses<F>, UPLINKS, LAZY>;
type Ends<F> = HashMap<<F as Family>::Addr, Endpoint, { MAX_ENDPOINTS as usize }, LAZY>;
type Hops<F> = HashMap<HopKey<F>, Hop, { MAX_HOPS as usize }, LAZY>;
type Peers<F> = LruHashMap<PeerKey<F>, Peer<F>, { MAX_PEERS as usize }>;
type Accounts<F, T> = HashMap<<F as Family>::Addr, T, ACCOUNTS, LAZY>;
type Works<F> = PerCpuArray<Work<F>, 1>;

/// What one packet needs while it is looked at: the stack (512 bytes for a whole chain of calls) has no
/// room for it.
pub struct Work<F: Family> {
    /// The packet's headers.
    pub headers: Headers<F>,
    /// What its addresses and ports become.
    pub to: Endpoints<F>,
    /// What the addresses around an ICMP error become; `to` is for those that it quotes.
    pub outer: Endpoints<F>,
    /// What an ICMP error quotes.
    pub quoted: Quoted<F>,
    /// A flow about to be opened.
    pub opening: Opening<F>,
    /// The host's address that it takes.
    pub source: UplinkAddress<F>,
    /// A mapping in the making.
    pub half: Mapping<F>,
    /// An entry in the making.
    pub flow: Flow<F>,
    /// A next hop in the making.
    pub hop: Hop,
    /// A header on its way from one family to the other.
    pub crossing: Crossing,
    /// What is summed up.
    pub piece: Piece,
}

/// The settings, one entry.
#[btf_map]
pub static SETTINGS: Array<Settings, 1> = Array::new();
/// Generations by slot: raised to end all flows that bear the old one.
#[btf_map]
pub static GENERATIONS: Array<u32, { slots::TOTAL as usize }> = Array::new();
/// Which ports are published nowhere, one entry.
#[btf_map]
static UNPUBLISHED: Array<Unpublished, 1> = Array::new();
/// Source ports that masquerade has shown.
#[btf_map]
pub static SHOWN: Array<Shown, { shown::ENTRIES }> = Array::new();
/// Counters by reason.
#[btf_map]
pub static REASONS: PerCpuArray<ReasonCount, { Reason::PLACES as usize }> = PerCpuArray::new();
/// Counters by binding slot.
#[btf_map]
pub static BINDING_STATS: PerCpuArray<BindingStats, BINDING_SLOTS> = PerCpuArray::new();

/// The ports whose endpoint takes frames from the driver's level, by index. When full, packets to the others go by the
/// stack. The kernel takes out what goes away.
#[btf_map]
pub static FRAME_PORTS: DevMapHash<{ MAX_ENDPOINTS as usize }> = DevMapHash::new();
/// The uplinks' own Ethernet addresses, one entry.
#[btf_map]
static CARDS: Array<Cards, 1> = Array::new();

macro_rules! family_maps {
    ($family:ty: $flows:ident $half:ident $bindings:ident $allowed:ident $mappings:ident $fragments:ident
     $networks:ident $locals:ident $uplinks:ident $ends:ident $hops:ident $peers:ident $opened:ident $held:ident
     $work:ident) => {
        /// Established flows, two entries each. When full, a flow stays among the half-open ones.
        #[btf_map]
        static $flows: Flows<$family> = Flows::new();
        /// Half-open and unanswered flows. When full, the one unused for longest makes room.
        #[btf_map]
        static $half: Half<$family> = Half::new();
        /// Published ports. When full, publishing is refused.
        #[btf_map]
        static $bindings: Bindings<$family> = Bindings::new();
        /// Networks of the allow-lists. When full, a port whose list has no room is not published.
        #[btf_map]
        static $allowed: Allowed<$family> = Allowed::<$family>::new();
        /// Endpoint-independent mappings, two entries each. When full, the one unused for longest makes room.
        #[btf_map]
        static $mappings: Mappings<$family> = Mappings::new();
        /// Datagrams under way in fragments. When full, the one unused for longest makes room.
        #[btf_map]
        static $fragments: Fragments<$family> = Fragments::new();
        /// Managed networks by prefix.
        #[btf_map]
        static $networks: Networks<$family> = Networks::<$family>::new();
        /// The host's addresses.
        #[btf_map]
        static $locals: Locals<$family> = Locals::<$family>::new();
        /// Addresses to masquerade with, by uplink.
        #[btf_map]
        static $uplinks: Uplinks<$family> = Uplinks::new();
        /// Endpoints behind the bridges. When full, packets to the others take the way through the stack.
        #[btf_map]
        static $ends: Ends<$family> = Ends::<$family>::new();
        /// Next hops outside. When full, packets to others take the way through the stack.
        #[btf_map]
        static $hops: Hops<$family> = Hops::new();
        /// What processes of the host dialled. When full, the one unused for longest makes room.
        #[btf_map]
        static $peers: Peers<$family> = Peers::new();
        /// Flows that endpoints have opened, while there is a limit. When full, the others have none.
        #[btf_map]
        static $opened: Accounts<$family, Opened> = Accounts::<$family, _>::new();
        /// Flows that they had when that was counted; of as many.
        #[btf_map]
        static $held: Accounts<$family, Held> = Accounts::<$family, _>::new();
        /// One packet's workspace.
        #[btf_map]
        static $work: Works<$family> = Works::new();

        impl Maps for $family {
            #[inline(always)]
            fn has_twin(key: &Tuple<Self>) -> bool {
                type Other = <$family as Family>::Other;
                key.across().is_some_and(|twin| {
                    Other::flows().get_ptr(&twin).is_some()
                        || Other::half().get_ptr(&twin).is_some()
                })
            }
            #[inline(always)]
            fn flows() -> &'static Flows<Self> {
                &$flows
            }
            #[inline(always)]
            fn half() -> &'static Half<Self> {
                &$half
            }
            #[inline(always)]
            fn bindings() -> &'static Bindings<Self> {
                &$bindings
            }
            #[inline(always)]
            fn allowed() -> &'static Allowed<Self> {
                &$allowed
            }
            #[inline(always)]
            fn mappings() -> &'static Mappings<Self> {
                &$mappings
            }
            #[inline(always)]
            fn fragments() -> &'static Fragments<Self> {
                &$fragments
            }
            #[inline(always)]
            fn networks() -> &'static Networks<Self> {
                &$networks
            }
            #[inline(always)]
            fn locals() -> &'static Locals<Self> {
                &$locals
            }
            #[inline(always)]
            fn uplinks() -> &'static Uplinks<Self> {
                &$uplinks
            }
            #[inline(always)]
            fn ends() -> &'static Ends<Self> {
                &$ends
            }
            #[inline(always)]
            fn hops() -> &'static Hops<Self> {
                &$hops
            }
            #[inline(always)]
            fn peers() -> &'static Peers<Self> {
                &$peers
            }
            #[inline(always)]
            fn opened() -> &'static Accounts<Self, Opened> {
                &$opened
            }
            #[inline(always)]
            fn held() -> &'static Accounts<Self, Held> {
                &$held
            }
            #[inline(always)]
            fn work() -> Option<&'static mut Work<Self>> {
                // SAFETY: this CPU's own place, and no program of ours interrupts another there.
                $work.get_ptr_mut(0).map(|work| unsafe { &mut *work })
            }
        }
    };
}

/// A family's own maps.
pub trait Maps: Family {
    /// Whether the other family's tables have a flow of the same packets.
    fn has_twin(key: &Tuple<Self>) -> bool;
    fn flows() -> &'static Flows<Self>;
    fn half() -> &'static Half<Self>;
    fn bindings() -> &'static Bindings<Self>;
    fn allowed() -> &'static Allowed<Self>;
    fn mappings() -> &'static Mappings<Self>;
    fn fragments() -> &'static Fragments<Self>;
    fn networks() -> &'static Networks<Self>;
    fn locals() -> &'static Locals<Self>;
    fn uplinks() -> &'static Uplinks<Self>;
    fn ends() -> &'static Ends<Self>;
    fn hops() -> &'static Hops<Self>;
    fn peers() -> &'static Peers<Self>;
    fn opened() -> &'static Accounts<Self, Opened>;
    fn held() -> &'static Accounts<Self, Held>;
    fn work() -> Option<&'static mut Work<Self>>;
}

family_maps!(V4: FLOWS4 HALF4 BINDINGS4 ALLOWED4 MAPPINGS4 FRAGMENTS4 NETWORKS4 LOCALS4 UPLINKS4 ENDPOINTS4 HOPS4
             PEERS4 OPENED4 HELD4 WORK4);
family_maps!(V6: FLOWS6 HALF6 BINDINGS6 ALLOWED6 MAPPINGS6 FRAGMENTS6 NETWORKS6 LOCALS6 UPLINKS6 ENDPOINTS6 HOPS6
             PEERS6 OPENED6 HELD6 WORK6);

/// The generation of a slot now.
#[inline(always)]
pub fn generation(slot: u32) -> u32 {
    GENERATIONS.get(slot).copied().unwrap_or(0)
}

/// Whether a port of the host may have to do with an endpoint: it is published somewhere, or a flow has shown it.
#[inline(always)]
pub fn may_be_ours(port: u16) -> bool {
    let (entry, place) = shown::place(port);
    may_be_published(port)
        || SHOWN
            .get(entry)
            .is_none_or(|shown| shown.masquerade[place] != 0)
}

/// Whether a port of the host may be published somewhere.
#[inline(always)]
pub fn may_be_published(port: u16) -> bool {
    UNPUBLISHED.get(0).is_none_or(|ports| !ports.has(port))
}

/// The managed network that an address belongs to.
#[inline(always)]
pub fn network<F: Maps>(addr: &F::Addr) -> Option<&'static Network> {
    use aya_ebpf::maps::lpm_trie::Key;
    use datapath_common::family::Address as _;
    F::networks().get(&Key::new(F::Addr::BITS, *addr))
}

/// The host's own address, if it is one.
#[inline(always)]
pub fn local<F: Maps>(addr: &F::Addr) -> Option<LocalAddress> {
    // SAFETY: copied at once; the entry's memory outlives the program's run.
    unsafe { F::locals().get(addr) }.copied()
}

/// The Ethernet address of an uplink that has a program at the driver's level.
#[inline(always)]
pub fn card(ifindex: u32) -> Option<Mac> {
    CARDS.get(0)?.mac(ifindex)
}

/// The endpoint that has an address, if it is known where it is.
#[inline(always)]
pub fn endpoint<F: Maps>(addr: &F::Addr) -> Option<&'static Endpoint> {
    // SAFETY: only read, and the entry's memory outlives the program's run.
    unsafe { F::ends().get(addr) }
}
