//! TCP (RFC 9293), UDP (RFC 768) and ICMP (RFC 792, RFC 4443) headers.

use datapath_common::{family::Family, proto, reason::Reason, tuple::Endpoints};

use super::{ETHERNET, Headers, Kind, Network, ipv6::is_extension};
use crate::packet::Packet;

#[repr(C)]
#[derive(Clone, Copy)]
struct Tcp {
    sport: u16,
    dport: u16,
    sequence: u32,
    acknowledgment: u32,
    data_offset: u8,
    flags: u8,
    _window: u16,
    _checksum: u16,
    _urgent: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Udp {
    sport: u16,
    dport: u16,
    length: u16,
    _checksum: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Icmp {
    kind: u8,
    _code: u8,
    _checksum: u16,
    id: u16,
    _sequence: u16,
}

#[inline(always)]
pub(super) fn transport<P: Packet, F: Family>(
    packet: &P,
    network: &Network<F>,
    headers: &mut Headers<F>,
) -> Result<(), Reason> {
    *headers = Headers {
        endpoints: Endpoints {
            src: network.src,
            dst: network.dst,
            sport: 0,
            dport: 0,
        },
        kind: Kind::LaterFragment,
        protocol: network.protocol,
        tcp_flags: 0,
        icmp_type: 0,
        fragmented: network.fragmented,
        fragment_id: network.fragment_id,
        l3: ETHERNET,
        l4: network.l4,
        sequence: 0,
        acknowledgment: 0,
        length: network.l4 - ETHERNET + network.payload,
    };
    if network.fragment_offset != 0 {
        return Ok(());
    }
    let whole = !network.fragmented;
    match network.protocol {
        proto::TCP => tcp(packet, network, headers)?,
        proto::UDP => udp(packet, network, headers, whole)?,
        protocol if protocol == F::ICMP => icmp(packet, network, headers)?,
        protocol if F::VERSION == 6 && is_extension(protocol) => {
            return Err(Reason::ExtensionHeaders);
        }
        _ => return Err(Reason::UntrackedProtocol),
    }
    Ok(())
}

#[inline(always)]
fn tcp<P: Packet, F: Family>(
    packet: &P,
    network: &Network<F>,
    headers: &mut Headers<F>,
) -> Result<(), Reason> {
    if network.payload < 20 {
        return Err(Reason::Malformed);
    }
    let tcp: Tcp = packet.read(network.l4)?;
    let length = u32::from(tcp.data_offset >> 4) * 4;
    if length < 20 || length > network.payload {
        return Err(Reason::Malformed);
    }
    headers.kind = Kind::Tcp;
    headers.endpoints.sport = u16::from_be(tcp.sport);
    headers.endpoints.dport = u16::from_be(tcp.dport);
    headers.tcp_flags = tcp.flags;
    headers.sequence = u32::from_be(tcp.sequence);
    headers.acknowledgment = u32::from_be(tcp.acknowledgment);
    Ok(())
}

#[inline(always)]
fn udp<P: Packet, F: Family>(
    packet: &P,
    network: &Network<F>,
    headers: &mut Headers<F>,
    whole: bool,
) -> Result<(), Reason> {
    if network.payload < 8 {
        return Err(Reason::Malformed);
    }
    let udp: Udp = packet.read(network.l4)?;
    let length = u32::from(u16::from_be(udp.length));
    let fits = length >= 8 && length <= network.payload;
    if whole && !fits && !packet.is_gso() {
        return Err(Reason::Malformed);
    }
    headers.kind = Kind::Udp;
    headers.endpoints.sport = u16::from_be(udp.sport);
    headers.endpoints.dport = u16::from_be(udp.dport);
    Ok(())
}

#[inline(always)]
fn icmp<P: Packet, F: Family>(
    packet: &P,
    network: &Network<F>,
    headers: &mut Headers<F>,
) -> Result<(), Reason> {
    if network.payload < 8 {
        return Err(Reason::Malformed);
    }
    let icmp: Icmp = packet.read(network.l4)?;
    headers.icmp_type = icmp.kind;
    let id = u16::from_be(icmp.id);
    if icmp.kind == F::ECHO_REQUEST {
        headers.kind = Kind::Query;
        headers.endpoints.sport = id;
    } else if icmp.kind == F::ECHO_REPLY {
        headers.kind = Kind::Query;
        headers.endpoints.dport = id;
    } else if is_error::<F>(icmp.kind) {
        headers.kind = Kind::Error;
    } else {
        return Err(Reason::UntrackedProtocol);
    }
    Ok(())
}

/// Unreachable, time exceeded, parameter problem, and packet too big in IPv6. A redirect is no error about
/// a packet's fate, and source quench is obsolete (RFC 6633).
#[inline(always)]
fn is_error<F: Family>(kind: u8) -> bool {
    if F::VERSION == 4 {
        matches!(kind, 3 | 11 | 12)
    } else {
        matches!(kind, 1..=4)
    }
}
