//! IPv6 clients of IPv4 endpoints (NAT64, RFC 6146, on a published port): one family's headers made the other's.
//!
//! Such a flow is one of IPv6's tables, in which an IPv4 address is written as a mapped one (`::ffff:0:0/96`). Its
//! prefix adds nothing to a ones'-complement sum (RFC 6052, 4.1), so a TCP or UDP checksum over mapped addresses is
//! the checksum over the IPv4 ones: addresses and ports are translated within IPv6, and what changes between the
//! families is the IP header alone (RFC 7915).

use crate::{
    checksum,
    family::{Addr4, Addr6},
    ports::PortRange,
    proto,
};

/// Source ports that clients appear with: below those that Linux gives the host's own sockets
/// (`net.ipv4.ip_local_port_range`), which dial endpoints from the same address.
pub const PORTS: PortRange = PortRange {
    first: 1_024,
    last: 32_767,
};

/// How much longer a packet is in IPv6, in bytes.
pub const GROWTH: u32 = (size_of::<Header6>() - size_of::<Header4>()) as u32;

/// Packets up to this size (IPv4) may be cut by routers: over IPv6 they fit every link (RFC 7915, 5.1).
const MAY_BE_CUT: u32 = 1_260;
const DONT_FRAGMENT: u16 = 0x4000;

/// The least MTU of an IPv6 link (RFC 8200, 5).
pub const LEAST_MTU: u32 = 1_280;

/// An IPv4 header without options, as it lies in memory (RFC 791, 3.1): integers are in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header4 {
    /// Version and length: 0x45.
    pub version: u8,
    /// Type of service.
    pub class: u8,
    /// Bytes, header included.
    pub length: u16,
    /// Identification of a datagram.
    pub id: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// Time to live.
    pub hops: u8,
    /// Protocol number.
    pub protocol: u8,
    /// Checksum of the header.
    pub checksum: u16,
    /// Source address.
    pub src: Addr4,
    /// Destination address.
    pub dst: Addr4,
}

/// An IPv6 header, as it lies in memory (RFC 8200, 3): integers are in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header6 {
    /// Version, traffic class, flow label.
    pub version: u32,
    /// Bytes behind the header.
    pub length: u16,
    /// Protocol number of what follows.
    pub next: u8,
    /// Hop limit.
    pub hops: u8,
    /// Source address.
    pub src: Addr6,
    /// Destination address.
    pub dst: Addr6,
}

impl Header4 {
    /// The header as IPv6 has it (RFC 7915, 4.1), its addresses mapped. The hop limit is for the router that sends
    /// it on to count down.
    #[must_use]
    #[inline(always)]
    pub fn across(&self) -> Header6 {
        let payload = u16::from_be(self.length).saturating_sub(size_of::<Self>() as u16);
        Header6 {
            version: (0x6000_0000 | u32::from(self.class) << 20).to_be(),
            length: payload.to_be(),
            next: match self.protocol {
                proto::ICMP => proto::ICMPV6,
                other => other,
            },
            hops: self.hops,
            src: Addr6::from_mapped(self.src),
            dst: Addr6::from_mapped(self.dst),
        }
    }

    /// With the checksum that is right for it.
    #[must_use]
    #[inline(always)]
    pub fn summed(mut self) -> Self {
        self.checksum = 0;
        self.checksum = checksum::mend(0xffff, checksum::sum(&self.words()));
        self
    }

    /// The header as words of memory, for a sum over it.
    #[must_use]
    #[inline(always)]
    pub fn words(&self) -> [u32; 5] {
        let pair = |a: u16, b: u16| {
            let ([a, b], [c, d]) = (a.to_ne_bytes(), b.to_ne_bytes());
            u32::from_ne_bytes([a, b, c, d])
        };
        [
            pair(u16::from_ne_bytes([self.version, self.class]), self.length),
            pair(self.id, self.fragment),
            pair(
                u16::from_ne_bytes([self.hops, self.protocol]),
                self.checksum,
            ),
            u32::from_ne_bytes(self.src.0),
            u32::from_ne_bytes(self.dst.0),
        ]
    }
}

impl Header6 {
    /// The header as IPv4 has it (RFC 7915, 5.1), if both addresses are mapped ones. `id` identifies the datagram if
    /// a router may cut it. The time to live is for the router that sends it on to count down.
    #[must_use]
    #[inline(always)]
    pub fn across(&self, id: u16) -> Option<Header4> {
        let length = u32::from(u16::from_be(self.length)) + size_of::<Header4>() as u32;
        let whole = length > MAY_BE_CUT;
        let header = Header4 {
            version: 0x45,
            class: (u32::from_be(self.version) >> 20) as u8,
            // A train of segments too long for the field ("BIG TCP") has 0 in both families.
            length: match self.length {
                0 => 0,
                _ => u16::try_from(length).unwrap_or(0).to_be(),
            },
            id: if whole { 0 } else { id },
            fragment: if whole { DONT_FRAGMENT.to_be() } else { 0 },
            hops: self.hops,
            protocol: match self.next {
                proto::ICMPV6 => proto::ICMP,
                other => other,
            },
            checksum: 0,
            src: self.src.mapped()?,
            dst: self.dst.mapped()?,
        };
        Some(header.summed())
    }

    /// The header as words of memory, for a sum over it.
    #[must_use]
    #[inline(always)]
    pub fn words(&self) -> [u32; 10] {
        let ([a, b], [c, d, e, f]) = (self.length.to_ne_bytes(), self.src.quarters());
        let [g, h, i, j] = self.dst.quarters();
        let lengths = u32::from_ne_bytes([a, b, self.next, self.hops]);
        [self.version, lengths, c, d, e, f, g, h, i, j]
    }

    /// What the pseudo-header (RFC 8200, 8.1) adds to the checksum of an ICMPv6 message that follows at once.
    #[must_use]
    #[inline(always)]
    pub fn pseudo_header(&self) -> u32 {
        let [_, _, addresses @ ..] = self.words();
        let length = u16::from_be(self.length);
        u32::from(checksum::pseudo_header(
            checksum::sum(&addresses),
            proto::ICMPV6,
            length,
        ))
    }
}

/// Type, code and second word (host order) of an ICMP error, either family's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// An MTU, or where a parameter is.
    pub word: u32,
}

/// An ICMPv6 error as ICMP says it (RFC 7915, 5.2), or `None` where ICMP has no word for it.
#[must_use]
#[inline(always)]
pub fn error_to_v4(error: Error) -> Option<Error> {
    let said = |kind, code, word| Some(Error { kind, code, word });
    match (error.kind, error.code) {
        (1, 0 | 2 | 3) => said(3, 1, 0),
        (1, 1) => said(3, 10, 0),
        (1, 4) => said(3, 3, 0),
        (2, _) => said(3, 4, mtu_to_v4(error.word)),
        (3, code) => said(11, code, 0),
        (4, 0) => match pointer_to_v4(error.word) {
            Some(pointer) => said(12, 0, pointer << 24),
            None => None,
        },
        (4, 1) => said(3, 2, 0),
        _ => None,
    }
}

/// An ICMP error as ICMPv6 says it (RFC 7915, 4.2), or `None` where ICMPv6 has no word for it.
#[must_use]
#[inline(always)]
pub fn error_to_v6(error: Error) -> Option<Error> {
    let said = |kind, code, word| Some(Error { kind, code, word });
    match (error.kind, error.code) {
        (3, 0 | 1 | 5..=8 | 11 | 12) => said(1, 0, 0),
        // Protocol unreachable: the pointer is at "next header".
        (3, 2) => said(4, 1, 6),
        (3, 3) => said(1, 4, 0),
        (3, 4) => said(2, 0, mtu_to_v6(error.word & 0xffff)),
        (3, 9 | 10 | 13 | 15) => said(1, 1, 0),
        (11, code) => said(3, code, 0),
        (12, 0 | 2) => match pointer_to_v6(error.word >> 24) {
            Some(pointer) => said(4, 0, pointer),
            None => None,
        },
        _ => None,
    }
}

/// What fits an IPv6 way, in IPv4, whose field has 16 bits. Whatever the message says, every IPv6 link takes as much as
/// the least (RFC 8201, 4).
#[inline(always)]
fn mtu_to_v4(mtu: u32) -> u32 {
    (mtu.max(LEAST_MTU) - GROWTH).min(0xffff)
}

/// What fits an IPv4 way, in IPv6: never less than every IPv6 link takes. A router that says nothing (RFC 1191, 3)
/// means that least.
#[inline(always)]
fn mtu_to_v6(mtu: u32) -> u32 {
    (mtu + GROWTH).max(LEAST_MTU)
}

/// RFC 7915, figure 6: the field of an IPv4 header that stands for one of IPv6's.
#[inline(always)]
const fn pointer_to_v4(pointer: u32) -> Option<u32> {
    match pointer {
        0 => Some(0),
        1 => Some(1),
        4 | 5 => Some(2),
        6 => Some(9),
        7 => Some(8),
        8..=23 => Some(12),
        24..=39 => Some(16),
        _ => None,
    }
}

/// RFC 7915, figure 3: the other way.
#[inline(always)]
const fn pointer_to_v6(pointer: u32) -> Option<u32> {
    match pointer {
        0 => Some(0),
        1 => Some(1),
        2 | 3 => Some(4),
        8 => Some(7),
        9 => Some(6),
        12..=15 => Some(8),
        16..=19 => Some(24),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
    use proptest::prelude::*;

    use super::*;

    fn bytes4(header: &Header4) -> Vec<u8> {
        header
            .words()
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect()
    }

    fn bytes6(header: &Header6) -> Vec<u8> {
        header
            .words()
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect()
    }

    fn six(class: u8, label: u32, payload: u16, next: u8, hops: u8, ends: [[u8; 4]; 2]) -> Header6 {
        Header6 {
            version: (0x6000_0000 | u32::from(class) << 20 | label & 0xf_ffff).to_be(),
            length: payload.to_be(),
            next,
            hops,
            src: Addr6::from_mapped(Addr4(ends[0])),
            dst: Addr6::from_mapped(Addr4(ends[1])),
        }
    }

    #[test]
    fn headers_have_their_sizes() {
        assert_eq!((size_of::<Header4>(), size_of::<Header6>()), (20, 40));
        assert_eq!(GROWTH, 20);
    }

    #[test]
    fn a_small_packet_may_be_cut_and_is_identified() {
        let ends = [[172, 17, 0, 1], [172, 17, 0, 2]];
        for (payload, may_be_cut) in [(20, true), (1_240, true), (1_241, false), (1_460, false)] {
            let header = six(0, 0, payload, 6, 64, ends).across(0x1234).unwrap();
            let (id, fragment) = if may_be_cut { (0x1234, 0) } else { (0, 0x4000) };
            assert_eq!((header.id, u16::from_be(header.fragment)), (id, fragment));
        }
    }

    #[test]
    fn only_mapped_addresses_cross() {
        let mut header = six(0, 0, 20, 6, 64, [[172, 17, 0, 1], [172, 17, 0, 2]]);
        header.dst = Addr6([0x20; 16]);
        assert_eq!(header.across(0), None);
    }

    #[test]
    fn errors_of_the_rfc() {
        let error = |(kind, code, word)| Error { kind, code, word };
        for (v6, v4) in [
            ((1, 0, 0), Some((3, 1, 0))),
            ((1, 1, 0), Some((3, 10, 0))),
            ((1, 2, 0), Some((3, 1, 0))),
            ((1, 3, 0), Some((3, 1, 0))),
            ((1, 4, 0), Some((3, 3, 0))),
            ((1, 5, 0), None),
            ((2, 0, 1_280), Some((3, 4, 1_260))),
            ((2, 0, 4), Some((3, 4, 1_260))),
            ((2, 0, u32::MAX), Some((3, 4, 0xffff))),
            ((3, 0, 0), Some((11, 0, 0))),
            ((3, 1, 0), Some((11, 1, 0))),
            ((4, 0, 7), Some((12, 0, 8 << 24))),
            ((4, 0, 2), None),
            ((4, 1, 6), Some((3, 2, 0))),
            ((4, 2, 0), None),
            ((128, 0, 0), None),
            ((137, 0, 0), None),
        ] {
            assert_eq!(error_to_v4(error(v6)), v4.map(error), "{v6:?}");
        }
        for (v4, v6) in [
            ((3, 0, 0), Some((1, 0, 0))),
            ((3, 1, 0), Some((1, 0, 0))),
            ((3, 2, 0), Some((4, 1, 6))),
            ((3, 3, 0), Some((1, 4, 0))),
            ((3, 4, 1_400), Some((2, 0, 1_420))),
            ((3, 4, 0), Some((2, 0, 1_280))),
            ((3, 9, 0), Some((1, 1, 0))),
            ((3, 10, 0), Some((1, 1, 0))),
            ((3, 13, 0), Some((1, 1, 0))),
            ((3, 14, 0), None),
            ((3, 15, 0), Some((1, 1, 0))),
            ((3, 16, 0), None),
            ((11, 0, 0), Some((3, 0, 0))),
            ((12, 0, 9 << 24), Some((4, 0, 6))),
            ((12, 0, 4 << 24), None),
            ((12, 1, 0), None),
            ((5, 0, 0), None),
            ((8, 0, 0), None),
        ] {
            assert_eq!(error_to_v6(error(v4)), v6.map(error), "{v4:?}");
        }
    }

    proptest! {
        /// Against parsers that are not ours: every field is where it belongs, and the header's sum is right.
        #[test]
        fn there_and_back(
            class: u8, label: u32, payload in 1u16..=65_000, udp: bool, hops: u8, id: u16,
            src: [u8; 4], dst: [u8; 4],
        ) {
            let next = if udp { proto::UDP } else { proto::TCP };
            let from = six(class, label, payload, next, hops, [src, dst]);
            let header = from.across(id).unwrap();
            let wire = bytes4(&header);
            let seen = Ipv4HeaderSlice::from_slice(&wire).unwrap().to_header();
            prop_assert_eq!(seen.header_checksum, seen.calc_header_checksum());
            prop_assert_eq!((seen.source, seen.destination), (src, dst));
            prop_assert_eq!(seen.total_len, payload + 20);
            prop_assert_eq!((seen.time_to_live, seen.protocol.0), (hops, next));
            prop_assert_eq!(u8::from(seen.dscp) << 2 | u8::from(seen.ecn), class);
            prop_assert!(!seen.more_fragments && u16::from(seen.fragment_offset) == 0);

            let back = bytes6(&header.across());
            let seen = Ipv6HeaderSlice::from_slice(&back).unwrap().to_header();
            prop_assert_eq!(seen.source, Addr6::from_mapped(Addr4(src)).0);
            prop_assert_eq!(seen.destination, Addr6::from_mapped(Addr4(dst)).0);
            prop_assert_eq!((seen.payload_length, seen.hop_limit), (payload, hops));
            prop_assert_eq!((seen.next_header.0, seen.traffic_class), (next, class));
            prop_assert_eq!(seen.flow_label.value(), 0);
        }

        /// What the module rests on: mapping an address changes no sum over it.
        #[test]
        fn mapping_is_neutral(address: [u8; 4], checksum: u16) {
            let v4 = Addr4(address);
            let words = Addr6::from_mapped(v4).quarters();
            let change = checksum::difference(&[u32::from_ne_bytes(address), 0, 0, 0], &words);
            let mended = checksum::mend(checksum, change);
            prop_assert!(mended == checksum || (mended ^ checksum) == 0xffff && mended.wrapping_add(1) < 2);
        }
    }
}
