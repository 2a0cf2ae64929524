//! IPv4 and IPv6 as types: everything that differs between them, named once.
//!
//! Code above this module is written over `F: Family` and compiled twice, so each family keeps keys of its
//! own size and neither has a copy of the logic. The trait is sealed: there are two families.

use core::{
    fmt::Debug,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{checksum, proto};

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::V4 {}
    impl Sealed for super::V6 {}
}

/// An address family.
pub trait Family: sealed::Sealed + Copy + Clone + Debug + Eq + Hash + Ord + 'static {
    /// An address, in network byte order.
    type Addr: Address;
    /// The other family.
    type Other: Family;
    /// The EtherType, in host order (IEEE 802).
    const ETHERTYPE: u16;
    /// 4 or 6, as the first nibble of the header says.
    const VERSION: u8;
    /// Bytes of the header without options or extension headers.
    const HEADER: u32;
    /// Where the source address stands in the header. The destination follows it at once in both families.
    const ADDRESSES: u32;
    /// Where the hop limit (IPv4: time to live) stands in the header.
    const HOP_LIMIT: u32;
    /// The protocol number of this family's ICMP.
    const ICMP: u8;
    /// ICMP type of an echo request.
    const ECHO_REQUEST: u8;
    /// ICMP type of an echo reply.
    const ECHO_REPLY: u8;
    /// Whether the header carries a checksum of its own (IPv4 only).
    const HEADER_CHECKSUM: bool;
    /// The first address of the link-local prefix: 169.254.0.0 of /16, fe80:: of /10.
    const LINK_LOCAL: Self::Addr;
    /// The host itself: 127.0.0.1 or `::1`.
    const LOOPBACK: Self::Addr;

    /// Whether the address, though written in this family, is one of the other: `::ffff:0:0/96`.
    fn is_foreign(addr: &Self::Addr) -> bool;

    /// The address as the other family writes it: an IPv4 one mapped into `::ffff:0:0/96`, or out of it.
    fn across(addr: &Self::Addr) -> Option<<Self::Other as Family>::Addr>;
}

/// An address of one family.
pub trait Address: Copy + Clone + Debug + Eq + Hash + Ord + Into<IpAddr> + 'static {
    /// Bits of an address.
    const BITS: u32;
    /// 0.0.0.0 or `::`, which a binding uses for "every address".
    const UNSPECIFIED: Self;
    /// Whether one machine answers to it: neither unspecified, multicast, broadcast nor loopback.
    fn is_unicast(&self) -> bool;
    /// Whether it is a loopback address (127.0.0.0/8 or ::1).
    fn is_loopback(&self) -> bool;
    /// Whether the first `bits` bits of both are the same. More bits than the address has are all of them.
    fn same_prefix(&self, other: &Self, bits: u32) -> bool;
    /// What the change from `self` to `to` adds to a ones'-complement sum (see [`crate::checksum`]).
    fn difference(&self, to: &Self) -> u32;
    /// The address of a general [`IpAddr`], if it is of this family.
    fn from_ip(ip: IpAddr) -> Option<Self>;
}

/// IPv4 (RFC 791).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum V4 {}

/// IPv6 (RFC 8200).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum V6 {}

/// An IPv4 address. Aligned so that the kernel side moves it as one word.
#[repr(C, align(4))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Addr4(pub [u8; 4]);

/// An IPv6 address. Aligned so that the kernel side moves it as four words, and no further: 8 would put
/// padding behind the ports of a tuple.
#[repr(C, align(4))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Addr6(pub [u8; 16]);

impl Family for V4 {
    type Addr = Addr4;
    type Other = V6;
    const ETHERTYPE: u16 = 0x0800;
    const VERSION: u8 = 4;
    const HEADER: u32 = 20;
    const ADDRESSES: u32 = 12;
    const HOP_LIMIT: u32 = 8;
    const ICMP: u8 = proto::ICMP;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const HEADER_CHECKSUM: bool = true;
    const LINK_LOCAL: Addr4 = Addr4([169, 254, 0, 0]);
    const LOOPBACK: Addr4 = Addr4([127, 0, 0, 1]);

    #[inline(always)]
    fn is_foreign(_: &Addr4) -> bool {
        false
    }

    #[inline(always)]
    fn across(addr: &Addr4) -> Option<Addr6> {
        Some(Addr6::from_mapped(*addr))
    }
}

impl Family for V6 {
    type Addr = Addr6;
    type Other = V4;
    const ETHERTYPE: u16 = 0x86dd;
    const VERSION: u8 = 6;
    const HEADER: u32 = 40;
    const ADDRESSES: u32 = 8;
    const HOP_LIMIT: u32 = 7;
    const ICMP: u8 = proto::ICMPV6;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const HEADER_CHECKSUM: bool = false;
    const LINK_LOCAL: Addr6 = Addr6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    const LOOPBACK: Addr6 = Addr6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    #[inline(always)]
    fn is_foreign(addr: &Addr6) -> bool {
        addr.mapped().is_some()
    }

    #[inline(always)]
    fn across(addr: &Addr6) -> Option<Addr4> {
        addr.mapped()
    }
}

impl Address for Addr4 {
    const BITS: u32 = 32;
    const UNSPECIFIED: Self = Self([0; 4]);

    #[inline(always)]
    fn is_unicast(&self) -> bool {
        // 240.0.0.0/4 is reserved, but used: the kernel takes such an address as any other (net/ipv4/route.c).
        match self.0[0] {
            0 | 127 | 224..=239 => false,
            _ => self.0 != [255; 4],
        }
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        self.0[0] == 127
    }

    #[inline(always)]
    fn same_prefix(&self, other: &Self, bits: u32) -> bool {
        let differ = u32::from_be_bytes(self.0) ^ u32::from_be_bytes(other.0);
        bits == 0 || differ.checked_shr(32u32.saturating_sub(bits)).unwrap_or(0) == 0
    }

    #[inline(always)]
    fn difference(&self, to: &Self) -> u32 {
        checksum::difference(&[u32::from_ne_bytes(self.0)], &[u32::from_ne_bytes(to.0)])
    }

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(v4) => Some(Self(v4.octets())),
            IpAddr::V6(_) => None,
        }
    }
}

impl Address for Addr6 {
    const BITS: u32 = 128;
    const UNSPECIFIED: Self = Self([0; 16]);

    #[inline(always)]
    fn is_unicast(&self) -> bool {
        // A mapped address belongs to sockets: on a wire it is forged (net/ipv6/ip6_input.c, `ip6_rcv_core`).
        self.0[0] != 0xff
            && *self != Self::UNSPECIFIED
            && !self.is_loopback()
            && self.mapped().is_none()
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        self.0 == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    }

    // Two words at a time: shifts of 128-bit integers are calls into a library that the BPF machine lacks.
    #[inline(always)]
    fn same_prefix(&self, other: &Self, bits: u32) -> bool {
        let (mine, theirs) = (self.words(), other.words());
        word_prefix(mine.0, theirs.0, bits.min(64))
            && word_prefix(mine.1, theirs.1, bits.saturating_sub(64).min(64))
    }

    #[inline(always)]
    fn difference(&self, to: &Self) -> u32 {
        checksum::difference(&self.quarters(), &to.quarters())
    }

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(Self(v6.octets())),
        }
    }
}

impl Addr6 {
    /// The address as four words of memory: the kernel side moves words where bytes would go one by one.
    #[must_use]
    #[inline(always)]
    pub const fn quarters(&self) -> [u32; 4] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        [
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ]
    }

    #[inline(always)]
    const fn words(&self) -> (u64, u64) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        (
            u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            u64::from_be_bytes([i, j, k, l, m, n, o, p]),
        )
    }
}

#[inline(always)]
const fn word_prefix(a: u64, b: u64, bits: u32) -> bool {
    bits == 0 || (a ^ b) >> ((64 - bits) & 63) == 0
}

impl From<Addr4> for IpAddr {
    fn from(addr: Addr4) -> Self {
        Self::V4(Ipv4Addr::from(addr.0))
    }
}

impl From<Addr6> for IpAddr {
    fn from(addr: Addr6) -> Self {
        Self::V6(Ipv6Addr::from(addr.0))
    }
}

impl Debug for Addr4 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        Debug::fmt(&Ipv4Addr::from(self.0), f)
    }
}

impl Debug for Addr6 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        Debug::fmt(&Ipv6Addr::from(self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn which_addresses_belong_to_one_machine() {
        for (addr, unicast) in [
            ([0, 0, 0, 0], false),
            ([0, 1, 2, 3], false),
            ([127, 0, 0, 1], false),
            ([172, 17, 0, 2], true),
            ([223, 255, 255, 255], true),
            ([224, 0, 0, 1], false),
            ([239, 255, 255, 255], false),
            ([240, 0, 0, 1], true),
            ([255, 255, 255, 254], true),
            ([255, 255, 255, 255], false),
        ] {
            assert_eq!(Addr4(addr).is_unicast(), unicast, "{addr:?}");
        }
        for (addr, unicast) in [
            ("::", false),
            ("::1", false),
            ("2001:db8::1", true),
            ("fe80::1", true),
            ("ff02::1", false),
            ("::ffff:172.17.0.2", false),
        ] {
            let ip: Ipv6Addr = addr.parse().unwrap();
            assert_eq!(Addr6(ip.octets()).is_unicast(), unicast, "{addr}");
        }
    }

    proptest! {
        #[test]
        fn prefix_of_v4_is_a_mask(a: u32, b: u32, bits in 0u32..=40) {
            let mask = if bits == 0 { 0 } else { u32::MAX << (32 - bits.min(32)) };
            let same = Addr4(a.to_be_bytes()).same_prefix(&Addr4(b.to_be_bytes()), bits);
            prop_assert_eq!(same, a & mask == b & mask);
        }

        #[test]
        fn prefix_of_v6_is_a_mask(a: u128, flip in 0u32..128, bits in 0u32..=130) {
            let b = a ^ (1 << flip);
            let mask = if bits == 0 { 0 } else { u128::MAX << (128 - bits.min(128)) };
            let same = Addr6(a.to_be_bytes()).same_prefix(&Addr6(b.to_be_bytes()), bits);
            prop_assert_eq!(same, a & mask == b & mask);
        }
    }
}
