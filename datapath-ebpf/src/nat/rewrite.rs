//! New addresses and ports, and every checksum that covers them.

use datapath_common::{
    checksum,
    family::{Address as _, Family},
    proto,
    reason::Reason,
    tuple::Endpoints,
};

use crate::{
    packet::{Covers, Packet},
    parse::{Headers, Kind},
};

/// Offset of the IPv4 header's checksum.
pub const HEADER_CHECKSUM: u32 = 10;
/// Offset of the identifier in an ICMP query.
const ICMP_ID: u32 = 4;

/// Makes the packet carry `to`.
#[inline(never)]
pub fn apply<P: Packet, F: Family>(
    packet: &mut P,
    headers: &Headers<F>,
    to: &Endpoints<F>,
) -> Result<(), Reason> {
    let from = &headers.endpoints;
    let change = addresses::<P, F>(packet, headers.l3, from, to)?;
    let (offset, udp) = match headers.kind {
        Kind::Tcp => (headers.l4 + 16, false),
        Kind::Udp => (headers.l4 + 6, true),
        Kind::Query => (headers.l4 + 2, false),
        Kind::Error | Kind::LaterFragment => return Ok(()),
    };
    if headers.protocol != proto::ICMP {
        packet.mend_checksum(offset, change, Covers::PseudoHeader, udp)?;
    }
    if (from.sport, from.dport) == (to.sport, to.dport) {
        return Ok(());
    }
    let (old, new) = (ports(from), ports(to));
    let difference = checksum::difference(&[old], &[new]);
    if udp && packet.read::<u16>(offset)? == 0 {
        packet.add_to_sum(difference);
    } else {
        packet.mend_checksum(offset, difference, Covers::Payload, udp)?;
    }
    if headers.kind == Kind::Query {
        // One of the two ports is the identifier, the other is 0.
        return packet.write(headers.l4 + ICMP_ID, &(to.sport | to.dport).to_be());
    }
    packet.write(headers.l4, &new)
}

/// Source and destination port as they lie in the header.
#[inline(always)]
pub fn ports<F: Family>(endpoints: &Endpoints<F>) -> u32 {
    in_header(endpoints.sport, endpoints.dport)
}

/// Two ports likewise.
#[inline(always)]
pub fn in_header(sport: u16, dport: u16) -> u32 {
    let [a, b] = sport.to_be_bytes();
    let [c, d] = dport.to_be_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

/// Writes source and destination into the IP header at `l3`, mends its checksum, and returns what the change
/// adds to a sum that covers them.
#[inline(never)]
pub fn addresses<P: Packet, F: Family>(
    packet: &mut P,
    l3: u32,
    from: &Endpoints<F>,
    to: &Endpoints<F>,
) -> Result<u32, Reason> {
    let difference = change(from, to);
    if F::HEADER_CHECKSUM {
        packet.mend_header_checksum(l3 + HEADER_CHECKSUM, difference)?;
    } else {
        packet.add_to_sum(difference);
    }
    write_addresses(packet, l3, to)?;
    Ok(difference)
}

/// What the change of both addresses adds to a sum that covers them.
#[inline(always)]
pub fn change<F: Family>(from: &Endpoints<F>, to: &Endpoints<F>) -> u32 {
    checksum::add(from.src.difference(&to.src), from.dst.difference(&to.dst))
}

/// Writes source and destination, which stand side by side in both families' headers and in [`Endpoints`].
#[inline(always)]
pub fn write_addresses<P: Packet, F: Family>(
    packet: &mut P,
    l3: u32,
    to: &Endpoints<F>,
) -> Result<(), Reason> {
    packet.write(l3 + F::ADDRESSES, &to.src)?;
    packet.write(l3 + F::ADDRESSES + size_of::<F::Addr>() as u32, &to.dst)
}
