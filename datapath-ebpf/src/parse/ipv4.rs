//! The IPv4 header (RFC 791, 3.1).

use datapath_common::{
    family::{Addr4, Family as _, V4},
    reason::Reason,
};

use super::{ETHERNET, Network, plain};
use crate::packet::{Head, Packet};

#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version_ihl: u8,
    _tos: u8,
    total_length: u16,
    id: u16,
    fragment: u16,
    _ttl: u8,
    protocol: u8,
    _checksum: u16,
    src: Addr4,
    dst: Addr4,
}

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(super) fn network<P: Packet>(packet: &P, l3: u32, quoted: bool) -> Result<Network<V4>, Reason> {
    let header: Header = packet.read(l3)?;
    let ihl = u32::from(header.version_ihl & 0x0f) * 4;
    if header.version_ihl >> 4 != 4 || ihl < 20 {
        return Err(Reason::Malformed);
    }
    let available = packet.len().wrapping_sub(l3);
    let mut total = u32::from(u16::from_be(header.total_length));
    if total == 0 && packet.is_gso() {
        // A train of segments too long for the field ("BIG TCP").
        total = available;
    }
    if total < ihl || (total > available && !quoted) {
        return Err(Reason::Malformed);
    }
    let fragment = u16::from_be(header.fragment);
    Ok(Network {
        src: header.src,
        dst: header.dst,
        protocol: header.protocol,
        l4: l3 + ihl,
        payload: total - ihl,
        fragment_offset: u32::from(fragment & OFFSET) * 8,
        fragmented: fragment & (OFFSET | MORE_FRAGMENTS) != 0,
        fragment_id: u32::from(u16::from_be(header.id)),
    })
}

/// The header in a frame of this length, if it has no options and the packet is whole.
#[inline(always)]
pub(super) fn plain(head: &Head, frame: u32) -> Option<plain::Network> {
    let version_ihl: u8 = head.get(ETHERNET);
    let total = u32::from(u16::from_be(head.get(ETHERNET + 2)));
    let fragment = u16::from_be(head.get(ETHERNET + 6));
    let [hops, protocol]: [u8; 2] = head.get(ETHERNET + V4::HOP_LIMIT);
    if version_ihl != 0x45
        || fragment & (OFFSET | MORE_FRAGMENTS) != 0
        || total < V4::HEADER
        || total > frame.wrapping_sub(ETHERNET)
    {
        return None;
    }
    Some(plain::Network {
        protocol,
        hops,
        payload: total - V4::HEADER,
    })
}
