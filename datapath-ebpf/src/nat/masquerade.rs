//! Masquerade: an endpoint's first packet takes the host's address, and a port there.

use datapath_common::{
    conntrack::Flow,
    network::Network,
    proto,
    reason::Reason,
    settings::slots,
    tuple::{Direction, Endpoints, Tuple},
    uplink::UplinkAddress,
};

use super::{mapping, publish};
use crate::{
    flow,
    maps::{self, Maps, Work},
    packet::{Buffered, SocketTuple},
};

/// Opens the flow that an endpoint's first packet asks for.
#[inline(always)]
pub fn open<P: Buffered, F: Maps>(
    packet: &P,
    work: &mut Work<F>,
    network: &Network,
    now: u64,
) -> Result<(), Reason> {
    let masquerade = network.has(Network::MASQUERADE);
    if masquerade {
        take_address(work, packet.ifindex(), now)?;
    } else {
        keep_address(work, packet.ifindex(), now)?;
    }
    flow::limit::check::<F>(&work.headers.endpoints.src, now)?;
    if masquerade && mapping::is_independent(work.headers.protocol) {
        keep_port(packet, work, now)?;
    }
    claim(packet, work)
}

/// Prepares a flow with the uplink's address for its source.
///
/// Verifier: this and its fellows are sub-programs, so that what they keep on the stack is theirs alone.
#[inline(never)]
fn take_address<F: Maps>(work: &mut Work<F>, ifindex: u32, now: u64) -> Result<(), Reason> {
    if !flow::may_open(&work.headers) {
        return Err(Reason::NoFlow);
    }
    // SAFETY: only read, and the entry's memory outlives the program's run.
    let uplink = unsafe { F::uplinks().get(ifindex) }.ok_or(Reason::NoAddress)?;
    let dst = &work.headers.endpoints.dst;
    work.source = *uplink.source_for(dst).ok_or(Reason::NoAddress)?;
    prepare(work, ifindex, now);
    work.opening.to.src = work.source.addr;
    Ok(())
}

/// A network that shows its own addresses: the flow is remembered, so that its answers are let in.
#[inline(never)]
fn keep_address<F: Maps>(work: &mut Work<F>, uplink: u32, now: u64) -> Result<(), Reason> {
    if !flow::may_open(&work.headers) {
        return Err(Reason::Routed);
    }
    work.source = UplinkAddress::NONE;
    prepare(work, uplink, now);
    work.opening.flags = Flow::<F>::ROUTED;
    work.opening.fixed = true;
    Ok(())
}

/// Prepares a flow that keeps its destination and leaves by this uplink, from a source at `work.source`.
#[inline(always)]
pub fn prepare<F: Maps>(work: &mut Work<F>, uplink: u32, now: u64) {
    let (headers, source) = (&work.headers, &work.source);
    work.opening.tuple = Tuple::new(
        &headers.endpoints,
        headers.protocol,
        Direction::FromEndpoint,
    );
    work.opening.to = headers.endpoints;
    work.opening.direction = Direction::FromEndpoint;
    work.opening.flags = 0;
    work.opening.binding = (slots::NOBODY, uplink);
    work.opening.address = (source.slot, maps::generation(source.slot));
    work.opening.bytes = u64::from(headers.length);
    work.opening.now = now;
    work.opening.fixed = false;
    work.opening.way_out = 0;
    work.outer = headers.endpoints;
}

/// Takes the port that this inside address and port shows to everybody, so that no other will do.
#[inline(always)]
pub fn keep_port<P: Buffered, F: Maps>(
    packet: &P,
    work: &mut Work<F>,
    now: u64,
) -> Result<(), Reason> {
    mapping::port(packet, &work.headers, &work.source, &mut work.half, now)?;
    work.opening.to.sport = work.half.port;
    work.opening.fixed = true;
    Ok(())
}

/// Opens what is prepared, on a source port that nobody else has. `work.outer` is what an answer answers to.
#[inline(never)]
pub fn claim<P: Buffered, F: Maps>(packet: &P, work: &mut Work<F>) -> Result<(), Reason> {
    let Work {
        headers,
        to,
        opening,
        flow,
        source,
        outer,
        ..
    } = work;
    let fixed = opening.fixed;
    flow::open(opening, flow, |port| {
        fixed || usable::<P, F>(packet, headers.protocol, &source.addr, port, outer)
    })?;
    *to = opening.to;
    flow::limit::count::<F>(&headers.endpoints.src, opening.now);
    Ok(())
}

/// Whether a port may be taken as a source: not 0, not a published one, not a socket's of the host.
#[inline(never)]
pub fn usable<P: Buffered, F: Maps>(
    packet: &P,
    protocol: u8,
    addr: &F::Addr,
    port: u16,
    from: &Endpoints<F>,
) -> bool {
    if protocol != proto::TCP && protocol != proto::UDP {
        // An ICMP identifier may be anything.
        return true;
    }
    if port == 0 || publish::binding::<F>(addr, port, protocol).is_some() {
        return false;
    }
    let answer = SocketTuple::<F> {
        src: from.dst,
        dst: *addr,
        sport: from.dport.to_be(),
        dport: port.to_be(),
    };
    !packet.host_socket(protocol, &answer)
}
