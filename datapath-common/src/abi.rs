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
    limit::{Held, Opened},
    mapping::{Mapping, MappingKey},
    network::{LocalAddress, Network},
    reason::ReasonCount,
    settings::Settings,
    shown::Shown,
    tuple::{Endpoints, Tuple},
    unpublished::Unpublished,
    uplink::UplinkAddresses,
    way::{Cards, Endpoint, Hop, HopKey},
};

/// Raised with every change of a map's layout or meaning. A service that finds another version pinned
/// refuses to adopt it.
pub const VERSION: u32 = 3;

macro_rules! sized {
    ($ty:ty, $size:literal) => {
        const _: () = assert!(size_of::<$ty>() == $size, stringify!($ty));
        const _: () = assert!(align_of::<$ty>() <= 8, stringify!($ty));
    };
}

macro_rules! abi {
    ($($ty:ty = $size:literal),+ $(,)?) => {$(
        sized!($ty, $size);
        // SAFETY: integers and byte arrays in `repr(C)` without padding (the sizes below are the sums of
        // the fields), so every bit pattern is a value.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $ty {}
    )+};
}

/// Of either family: with the sizes that they have in IPv4 and in IPv6.
macro_rules! abi_of_both {
    ($($ty:ident = $four:literal, $six:literal);+ $(;)?) => {$(
        sized!($ty<V4>, $four);
        sized!($ty<V6>, $six);
        // SAFETY: as above, in both families; there are no others (`Family` is sealed).
        #[cfg(feature = "user")]
        unsafe impl<F: crate::family::Family> aya::Pod for $ty<F> {}
    )+};
}

abi! {
    Addr4 = 4,
    Addr6 = 16,
    BindingStats = 32,
    Network = 16,
    LocalAddress = 12,
    ReasonCount = 16,
    Event = 120,
    Monitor = 8,
    Written = 24,
    Settings = 112,
    Shown = 128,
    Unpublished = 8192,
    Opened = 16,
    Held = 24,
    Endpoint = 16,
    Cards = 96,
    Hop = 40,
}

abi_of_both! {
    Tuple = 16, 40;
    Endpoints = 12, 36;
    Flow = 120, 144;
    BindingKey = 8, 20;
    Binding = 32, 44;
    AllowKey = 8, 20;
    MappingKey = 8, 20;
    Mapping = 24, 40;
    UplinkAddresses = 100, 196;
    FragmentKey = 16, 40;
    FragmentNote = 24, 48;
    HopKey = 8, 32;
    PeerKey = 16, 28;
    Peer = 8, 20;
}
