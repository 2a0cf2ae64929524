//! The size of segments that a TCP connection's two ends agree on (RFC 9293, 3.7.1): no greater than what fits the
//! client's way in IPv6, which takes 20 bytes more than the endpoint counts with.

use datapath_common::{checksum, family::Family, proto, reason::Reason};

use crate::{
    packet::{Covers, reshape::Reshape},
    parse::{Headers, Kind},
};

/// Bytes of IPv6's and TCP's headers.
const HEADERS: u32 = 40 + 20;
/// Bytes of TCP's header without options, and the most with them.
const PLAIN: u32 = 20;
/// Options that are looked at: the one that counts comes first in practice.
const MOST: u32 = 8;

const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;

/// Lowers the size that a SYN announces to what an interface takes in IPv6.
#[inline(always)]
pub fn clamp<P: Reshape, F: Family>(
    packet: &mut P,
    headers: &Headers<F>,
    ifindex: u32,
) -> Result<(), Reason> {
    if headers.kind == Kind::Tcp && headers.tcp_flags & proto::tcp::SYN != 0 {
        lower(packet, headers.l4, ifindex)?;
    }
    Ok(())
}

#[inline(never)]
fn lower<P: Reshape>(packet: &mut P, l4: u32, ifindex: u32) -> Result<(), Reason> {
    let Some(mtu) = packet.mtu(ifindex) else {
        return Ok(());
    };
    let most = mtu.saturating_sub(HEADERS).min(0xffff) as u16;
    let data_offset: u8 = packet.read(l4 + 12)?;
    let end = l4 + u32::from(data_offset >> 4) * 4;
    let mut option = l4 + PLAIN;
    for _ in 0..MOST {
        if option + 4 > end {
            return Ok(());
        }
        let [kind, length]: [u8; 2] = packet.read(option)?;
        match kind {
            END => return Ok(()),
            NOTHING => option += 1,
            MSS if length == 4 => return write(packet, l4, option + 2, most),
            _ if length < 2 => return Ok(()),
            _ => option += u32::from(length),
        }
    }
    Ok(())
}

/// Writes the lower size, and mends the checksum. In a sum, two bytes at an odd place count the other way round.
#[inline(always)]
fn write<P: Reshape>(packet: &mut P, l4: u32, offset: u32, most: u16) -> Result<(), Reason> {
    let old: [u8; 2] = packet.read(offset)?;
    if u16::from_be_bytes(old) <= most {
        return Ok(());
    }
    let new = most.to_be_bytes();
    let word = |[a, b]: [u8; 2]| match (offset - l4) % 2 {
        0 => u32::from_ne_bytes([a, b, 0, 0]),
        _ => u32::from_ne_bytes([b, a, 0, 0]),
    };
    let difference = checksum::difference(&[word(old)], &[word(new)]);
    packet.mend_checksum(l4 + 16, difference, Covers::Payload, false)?;
    packet.write(offset, &new)
}
