//! IPv6 clients of IPv4 endpoints: NAT64 on a published port (RFC 6146, RFC 7915).
//!
//! The flow is one of IPv6's tables, its endpoint's side written as mapped addresses (see
//! [`datapath_common::nat64`]), so it is found, followed and ended as any other. Towards the endpoint a packet is
//! translated within IPv6 and then given an IPv4 header; an answer is given an IPv6 header first.
//!
//! The endpoint sees the address that its bridge has, and a port there that no other flow of either family has
//! towards it. The stack never sees these packets: one that re-entered it with the host's own source would be a
//! martian. So they are translated only while no rule of the host's stands where they would pass it unseen.

pub mod error;
mod mss;

use datapath_common::{
    conntrack::Flow,
    family::{Addr4, Addr6, Address as _, Family, V4, V6},
    nat64::{GROWTH, PORTS},
    network::Network,
    proto,
    reason::Reason,
    settings::Settings,
    tuple::{Direction, Endpoints, Tuple},
};

use super::{masquerade, rewrite};
use crate::{
    bpf, flow, forward,
    maps::{self, Maps, SETTINGS, Work},
    packet::{Buffered, Packet, reshape::Reshape},
    parse::{ETHERNET, Headers, Kind, Parse},
    report,
};

/// A family, and what its packets have to do with the other.
pub trait Across: Maps + Parse {
    /// Sends a packet to the endpoint of the other family that `work.to` leads to. The `first` of a flow opens it.
    fn to_endpoint<P: Reshape>(packet: &mut P, work: &mut Work<Self>, first: bool) -> Reason;

    /// What became of an endpoint's packet to an address of the host, if it was an answer to a client of the other
    /// family.
    fn answer<P: Reshape>(packet: &mut P, work: &Work<Self>, now: u64) -> Option<Reason>;

    /// Sends an ICMP error about an answer to the endpoint of the other family. `work.to` is what the answer was
    /// before it was translated.
    fn error_to_endpoint<P: Reshape>(packet: &mut P, work: &mut Work<Self>) -> Reason;

    /// What became of an endpoint's ICMP error to an address of the host, if it was about a packet of a client of the
    /// other family.
    fn error_answer<P: Reshape>(packet: &mut P, work: &mut Work<Self>) -> Option<Reason>;
}

impl Across for V4 {
    /// No IPv4 port leads to an IPv6 endpoint.
    #[inline(always)]
    fn to_endpoint<P: Reshape>(_: &mut P, _: &mut Work<Self>, _: bool) -> Reason {
        Reason::CrossFamily
    }

    #[inline(always)]
    fn answer<P: Reshape>(packet: &mut P, work: &Work<Self>, now: u64) -> Option<Reason> {
        let ports = PORTS.first..=PORTS.last;
        if !ports.contains(&work.headers.endpoints.dport) || !is_allowed() {
            return None;
        }
        find(&work.headers, now)?;
        Some(outward(packet, &work.headers))
    }

    #[inline(always)]
    fn error_to_endpoint<P: Reshape>(_: &mut P, _: &mut Work<Self>) -> Reason {
        Reason::CrossFamily
    }

    #[inline(always)]
    fn error_answer<P: Reshape>(packet: &mut P, work: &mut Work<Self>) -> Option<Reason> {
        error::outward(packet, work)
    }
}

impl Across for V6 {
    #[inline(always)]
    fn to_endpoint<P: Reshape>(packet: &mut P, work: &mut Work<Self>, first: bool) -> Reason {
        inward(packet, work, first)
    }

    /// No IPv4 port leads to an IPv6 endpoint.
    #[inline(always)]
    fn answer<P: Reshape>(_: &mut P, _: &Work<Self>, _: u64) -> Option<Reason> {
        None
    }

    #[inline(always)]
    fn error_to_endpoint<P: Reshape>(packet: &mut P, work: &mut Work<Self>) -> Reason {
        error::inward(packet, work)
    }

    #[inline(always)]
    fn error_answer<P: Reshape>(_: &mut P, _: &mut Work<Self>) -> Option<Reason> {
        None
    }
}

/// Whether packets may be translated between the families.
#[inline(always)]
fn is_allowed() -> bool {
    SETTINGS
        .get(0)
        .is_some_and(|settings| settings.flags & Settings::NAT64 != 0)
}

#[inline(never)]
fn inward<P: Reshape>(packet: &mut P, work: &mut Work<V6>, first: bool) -> Reason {
    report::reason(enter(packet, work, first))
}

#[inline(always)]
fn enter<P: Reshape>(packet: &mut P, work: &mut Work<V6>, first: bool) -> Result<Reason, Reason> {
    if !is_allowed() {
        return Err(Reason::CrossFamily);
    }
    let headers = &work.headers;
    if headers.fragmented || headers.l4 - headers.l3 != V6::HEADER {
        return Err(Reason::Nat64NotPlain);
    }
    if headers.kind == Kind::Udp && packet.read::<u16>(headers.l4 + 6)? == 0 {
        // What IPv4 takes for "none" is wrong in IPv6 (RFC 8200, 8.1), and stays so.
        return Err(Reason::Nat64NotPlain);
    }
    if first {
        claim(packet, work)?;
    }
    let arrives = packet.ifindex();
    mss::clamp(packet, &work.headers, arrives)?;
    rewrite::apply(packet, &work.headers, &work.to)?;
    become_v4(packet)?;
    Ok(send(packet, work))
}

/// Sends on what has become a packet of IPv4.
///
/// Verifier: this and its fellows are sub-programs, so that what they keep on the stack is theirs alone.
#[inline(never)]
fn send<P: Reshape>(packet: &mut P, work: &Work<V6>) -> Reason {
    let Some(four) = V4::work() else {
        return Reason::TableFull;
    };
    let Some(to) = work.to.across() else {
        return Reason::CrossFamily;
    };
    four.to = to;
    four.headers = work.headers.across(to);
    let sent = match forward::to_endpoint(packet, four, bpf::now()) {
        Ok(false) => forward::to_neighbour(packet, four),
        sent => sent.map(drop),
    };
    report::reason(sent.map(|()| Reason::Nat64))
}

/// Opens the flow that `publish::open` prepared, with the bridge's address for its source.
#[inline(never)]
fn claim<P: Buffered>(packet: &P, work: &mut Work<V6>) -> Result<(), Reason> {
    let Work {
        to, opening, flow, ..
    } = work;
    let endpoint = opening.to.dst.mapped().ok_or(Reason::CrossFamily)?;
    let network = maps::network::<V4>(&endpoint).ok_or(Reason::CrossFamily)?;
    if network.has(Network::INTERNAL) {
        return Err(Reason::Internal);
    }
    let gateway = network.gateway;
    if gateway == Addr4::UNSPECIFIED {
        return Err(Reason::CrossFamily);
    }
    opening.to.src = Addr6::from_mapped(gateway);
    opening.to.sport = PORTS.candidate(bpf::random(), 0);
    opening.way_out = packet.ifindex();
    let protocol = opening.tuple.protocol;
    let seen = Endpoints::<V4> {
        src: gateway,
        dst: endpoint,
        sport: 0,
        dport: opening.to.dport,
    };
    flow::open(opening, flow, |port| {
        masquerade::usable::<P, V4>(packet, protocol, &gateway, port, &seen)
    })?;
    *to = opening.to;
    Ok(())
}

/// An IPv6 header with mapped addresses becomes one of IPv4.
#[inline(never)]
fn become_v4<P: Reshape>(packet: &mut P) -> Result<(), Reason> {
    let work = V6::work().ok_or(Reason::TableFull)?;
    let crossing = &mut work.crossing;
    crossing.outer6 = packet.read(ETHERNET)?;
    crossing.outer_to_v4()?;
    packet.change_family::<V4>()?;
    packet.write_anew(ETHERNET, &crossing.outer4)
}

/// An IPv4 header becomes one of IPv6 with mapped addresses.
#[inline(never)]
fn become_v6<P: Reshape>(packet: &mut P) -> Result<(), Reason> {
    let work = V6::work().ok_or(Reason::TableFull)?;
    let crossing = &mut work.crossing;
    crossing.outer4 = packet.read(ETHERNET)?;
    crossing.outer6 = crossing.outer4.across();
    packet.change_family::<V6>()?;
    packet.write_anew(ETHERNET, &crossing.outer6)
}

/// Finds the flow that an endpoint's packet is an answer of. Leaves in IPv6's workspace what the packet is there, and
/// what it becomes.
#[inline(never)]
fn find(headers: &Headers<V4>, now: u64) -> Option<()> {
    let work = V6::work()?;
    work.headers = headers.across(headers.endpoints.across()?);
    let direction = Direction::FromEndpoint;
    flow::find(&work.headers, direction, 0, &mut work.to, now).map(drop)
}

/// Sends an answer on its way to the client.
#[inline(never)]
fn outward<P: Reshape>(packet: &mut P, headers: &Headers<V4>) -> Reason {
    report::reason(leave(packet, headers))
}

#[inline(always)]
fn leave<P: Reshape>(packet: &mut P, headers: &Headers<V4>) -> Result<Reason, Reason> {
    let work = V6::work().ok_or(Reason::TableFull)?;
    if headers.fragmented || headers.l4 - headers.l3 != V4::HEADER {
        return Err(Reason::Nat64NotPlain);
    }
    if headers.kind == Kind::Udp && packet.read::<u16>(headers.l4 + 6)? == 0 {
        return Err(Reason::Nat64NotPlain);
    }
    let way_out = way_out(&work.headers).ok_or(Reason::NoFlow)?;
    mss::clamp(packet, headers, way_out)?;
    if !fits(packet, headers, way_out) {
        return Err(Reason::Nat64TooBig);
    }
    become_v6(packet)?;
    rewrite::apply(packet, &work.headers, &work.to)?;
    forward::to_route(packet, &work.headers, way_out)?;
    Ok(Reason::Nat64)
}

/// The interface that an answer's flow came by.
#[inline(never)]
fn way_out(headers: &Headers<V6>) -> Option<u32> {
    let key = Tuple::new(
        &headers.endpoints,
        headers.protocol,
        Direction::FromEndpoint,
    );
    flow::living(&key, bpf::now()).map(Flow::way_out)
}

/// Whether a packet, or each segment of a train, fits an interface once it is one of IPv6.
#[inline(never)]
fn fits<P: Reshape>(packet: &P, headers: &Headers<V4>, ifindex: u32) -> bool {
    let Some(mtu) = packet.mtu(ifindex) else {
        return false;
    };
    let length = match packet.segment() {
        0 => headers.length,
        segment => V4::HEADER + transport_header(packet, headers) + segment,
    };
    length + GROWTH <= mtu
}

#[inline(always)]
fn transport_header<P: Packet>(packet: &P, headers: &Headers<V4>) -> u32 {
    match headers.protocol {
        proto::TCP => packet
            .read::<u8>(headers.l4 + 12)
            .map_or(60, |data_offset| u32::from(data_offset >> 4) * 4),
        _ => 8,
    }
}
