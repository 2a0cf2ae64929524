//! The ABI's version, and the promise that each type of it has the size written here.
//!
//! This is the crate's only `unsafe`: `aya::Pod` for types that are plain bytes. The assertions make two
//! things build errors: a size that changed unnoticed, and an alignment for which the kernel's map values
//! (8 bytes) would not do.

use core::mem::{align_of, size_of};

use crate::{
    allow::AllowKey,
    binding::{Binding, BindingKey, BindingStats},
    conntrack::Flow,
    event::{Event, Monitor, Written},
    family::{Addr4, Addr6, V4, V6},
    fragment::{FragmentKey, FragmentNote},
    host::{Peer, PeerKey},
    mapping::{Mapping, MappingKey},
    network::{LocalAddress, Network},
    reason::ReasonCount,
    settings::Settings,
    shown::Shown,
    tuple::{Endpoints, Tuple},
    uplink::UplinkAddresses,
    way::{Cards, Endpoint, Hop, HopKey},
};

/// Raised with every change of a map's layout or meaning. A service that finds another version pinned
/// refuses to adopt it.
pub const VERSION: u32 = 3;

macro_rules! abi {
    ($($ty:ty = $size:literal),+ $(,)?) => {$(
        const _: () = assert!(size_of::<$ty>() == $size, stringify!($ty));
        const _: () = assert!(align_of::<$ty>() <= 8, stringify!($ty));
        // SAFETY: integers and byte arrays in `repr(C)` without padding (the sizes above are the sums of
        // the fields), so every bit pattern is a value.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $ty {}
    )+};
}

abi! {
    Addr4 = 4,
    Addr6 = 16,
    Tuple<V4> = 16,
    Tuple<V6> = 40,
    Endpoints<V4> = 12,
    Endpoints<V6> = 36,
    Flow<V4> = 80,
    Flow<V6> = 104,
    BindingKey<V4> = 8,
    BindingKey<V6> = 20,
    Binding<V4> = 32,
    Binding<V6> = 44,
    BindingStats = 32,
    AllowKey<V4> = 8,
    AllowKey<V6> = 20,
    MappingKey<V4> = 8,
    MappingKey<V6> = 20,
    Mapping<V4> = 24,
    Mapping<V6> = 40,
    Network = 16,
    LocalAddress = 12,
    UplinkAddresses<V4> = 100,
    UplinkAddresses<V6> = 196,
    FragmentKey<V4> = 16,
    FragmentKey<V6> = 40,
    FragmentNote<V4> = 24,
    FragmentNote<V6> = 48,
    ReasonCount = 16,
    Event = 120,
    Monitor = 8,
    Written = 24,
    Settings = 96,
    Shown = 128,
    Endpoint = 16,
    Cards = 96,
    Hop = 40,
    HopKey<V4> = 8,
    HopKey<V6> = 32,
    PeerKey<V4> = 16,
    PeerKey<V6> = 28,
    Peer<V4> = 8,
    Peer<V6> = 20,
}
