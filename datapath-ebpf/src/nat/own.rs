//! The host's own flows, where they would be taken for an endpoint's.
//!
//! The host's packets leave as they are. But where one goes from a port that masquerade shows to the same
//! destination, the answers would be the endpoint's. Such a flow shows another port, as Linux has it too
//! (net/netfilter/nf_nat_core.c, `get_unique_tuple`).
//!
//! Likewise where one goes from a port that is published: the kernel gives the host's processes any port that no socket
//! holds. The answers are told by the connection that they belong to, of datagrams by the flow that is opened for them.
//!
//! A port that no such flow has ever shown, and that is published nowhere, is known by a byte and a bit, so the host's
//! other packets pay no lookup.

use datapath_common::{
    family::Address as _,
    proto,
    reason::Reason,
    shown,
    tuple::{Direction, Tuple},
};

use super::{mapping, masquerade, publish, rewrite};
use crate::{
    flow,
    maps::{self, Maps, SHOWN, Work},
    packet::{Buffered, Packet, SocketTuple},
    parse::{Headers, Kind},
};

/// Whether a packet that is no endpoint's may have to do with a flow that is.
#[inline(always)]
pub fn is_concerned<F: Maps>(headers: &Headers<F>) -> bool {
    if matches!(headers.kind, Kind::Error | Kind::LaterFragment) {
        return false;
    }
    let (entry, place) = shown::place(headers.endpoints.sport);
    let Some(shown) = SHOWN.get(entry) else {
        return false;
    };
    let begins = || {
        shown.masquerade[place] != 0
            || headers.kind == Kind::Udp && maps::may_be_published(headers.endpoints.sport)
    };
    // Only a first packet can begin to be in the way; those that follow one that was have a mark of their own.
    shown.own[place] != 0 || (flow::may_open(headers) && begins())
}

/// Why a packet to an address of the host that belongs to no flow goes no further, or that it is of a connection of the
/// host's own, from a port that is published.
#[inline(never)]
pub fn or_connected<P: Packet, F: Maps>(
    packet: &P,
    headers: &Headers<F>,
    refused: Reason,
) -> Reason {
    if refused != Reason::NoFlow || headers.kind != Kind::Tcp {
        return refused;
    }
    let ends = &headers.endpoints;
    let answer = SocketTuple::<F> {
        src: ends.src,
        dst: ends.dst,
        sport: ends.sport.to_be(),
        dport: ends.dport.to_be(),
    };
    if packet.host_connection(&answer) {
        Reason::NotOurs
    } else {
        refused
    }
}

/// Notes that a flow shows a port.
#[inline(always)]
pub fn note(port: u16) {
    let (entry, place) = shown::place(port);
    if let Some(shown) = SHOWN.get_ptr_mut(entry) {
        // SAFETY: a byte of an array's entry; every CPU writes the same there.
        unsafe { (*shown).masquerade[place] = 1 };
    }
}

/// A packet of the host's own that leaves by an uplink: translated if its flow is, or has to be from now on.
#[inline(always)]
pub fn leave<P: Buffered, F: Maps>(
    packet: &mut P,
    work: &mut Work<F>,
    now: u64,
) -> Result<Reason, Reason> {
    let mut reason = Reason::Flow;
    let uplink = packet.ifindex();
    if flow::find(
        &work.headers,
        Direction::FromEndpoint,
        uplink,
        &mut work.to,
        now,
    )
    .is_none()
    {
        open(packet, work, now)?;
        reason = Reason::OwnFlow;
    }
    rewrite::apply(packet, &work.headers, &work.to)?;
    Ok(reason)
}

/// Whether the answers would find a flow, or open one.
#[inline(never)]
fn is_in_the_way<F: Maps>(headers: &Headers<F>, now: u64) -> bool {
    let asked = &headers.endpoints;
    let protocol = headers.protocol;
    let published = protocol == proto::UDP
        && asked.dst.is_unicast()
        && publish::binding::<F>(&asked.src, asked.sport, protocol).is_some();
    published || {
        let answer = Tuple::new(&asked.reversed(), protocol, Direction::ToEndpoint);
        flow::is_taken::<F>(&answer, now)
    }
}

/// Opens a flow for it, if the answers would find one already, or open one.
#[inline(never)]
fn open<P: Buffered, F: Maps>(packet: &P, work: &mut Work<F>, now: u64) -> Result<(), Reason> {
    let asked = &work.headers.endpoints;
    let protocol = work.headers.protocol;
    let local = maps::local::<F>(&asked.src).ok_or(Reason::NotOurs)?;
    if !flow::may_open(&work.headers) || !is_in_the_way(&work.headers, now) {
        return Err(Reason::NotOurs);
    }
    let own_port = asked.sport;
    work.source.addr = asked.src;
    work.source.slot = local.slot;
    masquerade::prepare(work, packet.ifindex(), now);
    let (entry, place) = shown::place(work.headers.endpoints.sport);
    if let Some(shown) = SHOWN.get_ptr_mut(entry) {
        // SAFETY: as in `note`.
        unsafe { (*shown).own[place] = 1 };
    }
    let Work {
        to,
        opening,
        flow,
        source,
        outer,
        ..
    } = work;
    flow::open(opening, flow, |port| {
        port == own_port
            || masquerade::usable::<P, F>(packet, protocol, &source.addr, port, outer)
                && !mapping::is_held::<F>(&source.addr, protocol, port, now)
    })?;
    *to = opening.to;
    Ok(())
}
