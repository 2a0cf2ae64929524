//! The IPv6 header and the extension headers before the transport's (RFC 8200, 3 and 4).

use datapath_common::{
    family::{Addr6, Family as _, V6},
    proto::ext,
    reason::Reason,
};

use super::{ETHERNET, Network, plain};
use crate::packet::{Head, Packet};

#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version: u8,
    _class_and_label: [u8; 3],
    payload_length: u16,
    next: u8,
    _hop_limit: u8,
    src: Addr6,
    dst: Addr6,
}

/// The first eight bytes of any extension header; for the fragment header, all of it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Extension {
    next: u8,
    /// In units of eight bytes, the first not counted.
    length: u8,
    fragment: u16,
    id: u32,
}

impl Extension {
    /// Of a routing header: how many stops are still to come (RFC 8200, 4.4).
    #[inline(always)]
    const fn segments_left(&self) -> u8 {
        let [_routing_type, segments_left] = self.fragment.to_ne_bytes();
        segments_left
    }
}

/// Behind more extension headers than are followed, or one that leads elsewhere, `protocol` is that of the next
/// extension header.
#[inline(always)]
pub(super) fn network<P: Packet>(packet: &P, l3: u32, quoted: bool) -> Result<Network<V6>, Reason> {
    let header: Header = packet.read(l3)?;
    if header.version >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    let available = packet.len().wrapping_sub(l3 + V6::HEADER);
    let mut payload = u32::from(u16::from_be(header.payload_length));
    if payload == 0 && packet.is_gso() {
        payload = available;
    }
    if (payload > available && !quoted) || packet.len() < l3 + V6::HEADER {
        return Err(Reason::Malformed);
    }
    let mut network = Network {
        src: header.src,
        dst: header.dst,
        protocol: header.next,
        l4: l3 + V6::HEADER,
        payload,
        fragment_offset: 0,
        fragmented: false,
        fragment_id: 0,
    };
    for _ in 0..ext::MAX {
        if !is_extension(network.protocol) || network.fragment_offset != 0 {
            break;
        }
        let extension: Extension = packet.read(network.l4)?;
        if network.protocol == ext::ROUTING && extension.segments_left() != 0 {
            // The destination is a stop on the way: ports and checksum are another address's (RFC 8200, 8.1).
            break;
        }
        let length = if network.protocol == ext::FRAGMENT {
            let field = u16::from_be(extension.fragment);
            network.fragment_offset = u32::from(field & 0xfff8);
            // An "atomic" fragment (RFC 6946) is whole.
            network.fragmented = field & 0xfff9 != 0;
            network.fragment_id = u32::from_be(extension.id);
            8
        } else {
            (u32::from(extension.length) + 1) * 8
        };
        if length > network.payload {
            return Err(Reason::Malformed);
        }
        network.payload -= length;
        network.l4 += length;
        network.protocol = extension.next;
    }
    Ok(network)
}

/// The header in a frame of this length. One that extensions follow has none of the transports' numbers.
#[inline(always)]
pub(super) fn plain(head: &Head, frame: u32) -> Option<plain::Network> {
    let version: u8 = head.get(ETHERNET);
    let payload = u32::from(u16::from_be(head.get(ETHERNET + 4)));
    let [protocol, hops]: [u8; 2] = head.get(ETHERNET + 6);
    if version >> 4 != 6 || payload > frame.wrapping_sub(ETHERNET + V6::HEADER) {
        return None;
    }
    Some(plain::Network {
        protocol,
        hops,
        payload,
    })
}

/// Whether what follows is an extension header that is followed.
#[inline(always)]
pub fn is_extension(next: u8) -> bool {
    matches!(
        next,
        ext::HOP_BY_HOP | ext::ROUTING | ext::FRAGMENT | ext::DESTINATION
    )
}
