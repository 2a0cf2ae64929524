//! Hairpin: an endpoint that asks for a published port at an address of the host, its own port included.
//!
//! Both ends are behind the host, so both directions are seen as coming from an endpoint. The answering side
//! sees the host's address (RFC 4787, REQ-9): an answer to a neighbour's own address would take the short way
//! over the bridge, past the translation.

use datapath_common::{
    conntrack::Flow,
    family::Address as _,
    network::Network,
    reason::Reason,
    tuple::{Direction, Tuple},
};

use super::{
    allow, fragment, icmp_error, link_local, mapping, masquerade, nat64::Across, own, publish,
    rewrite,
};
use crate::{
    bpf, flow, forward,
    maps::{self, Maps, Work},
    packet::{Buffered, reshape::Reshape},
    parse::Kind,
};

/// Both ways of such a flow.
const DIRECTION: Direction = Direction::FromEndpoint;

/// A packet from an endpoint to an address of the host.
#[inline(always)]
pub fn turn<P: Reshape, F: Across>(
    packet: &mut P,
    work: &mut Work<F>,
    from: &Network,
) -> Result<Reason, Reason> {
    let now = bpf::now();
    let reason = match work.headers.kind {
        Kind::LaterFragment => follow(packet, work, now)?,
        Kind::Error => match icmp_error::hairpin(packet, work) {
            Err(Reason::ToHost) => return F::error_answer(packet, work).ok_or(Reason::ToHost),
            end => end?,
        },
        Kind::Tcp | Kind::Udp | Kind::Query => {
            // No uplink is passed: every flow that is found here came by a binding.
            let known = flow::find(&work.headers, DIRECTION, 0, &mut work.to, now).is_some();
            if !known && let Some(reason) = F::answer(packet, work, now) {
                return Ok(reason);
            }
            if !known {
                lead(work, from, now).map_err(|reason| {
                    let mut reason = own::or_connected(packet, &work.headers, reason);
                    if reason == Reason::NotOurs {
                        reason = Reason::ToHost;
                    }
                    fragment::leave_alone(&work.headers, DIRECTION, reason, now)
                })?;
            }
            if F::is_foreign(&work.to.dst) {
                return across(packet, work, !known, now);
            }
            pass(packet, work, known, now)?
        }
    };
    if link_local::is_for_client(work) {
        link_local::answer(packet, work)?;
    } else {
        forward::to_neighbour(packet, work)?;
    }
    Ok(reason)
}

/// A packet of an established flow, from its endpoint's port straight into the other endpoint. `None`: the bridge has it,
/// untouched.
///
/// What the bridge's program asks of a packet ([`crate::guard::endpoint`]) holds for one that this endpoint sent; and the
/// flow was let through there, for as long as what it depends on is as it was.
#[inline(never)]
pub fn shortcut<P: Buffered, F: Maps>(
    packet: &mut P,
    work: &mut Work<F>,
    now: u64,
) -> Option<Reason> {
    let headers = &work.headers;
    if !forward::is_plain(headers) {
        return None;
    }
    let from = maps::endpoint::<F>(&headers.endpoints.src)?;
    if !forward::is_from(from, packet.ifindex(), &packet.read(0).ok()?) {
        return None;
    }
    let flow::Known::Established(flow) = flow::established(headers, DIRECTION, now) else {
        return None;
    };
    if !flow.has(Flow::<F>::HAIRPIN) || F::is_foreign(&flow.to.dst) {
        return None;
    }
    let to = maps::endpoint::<F>(&flow.to.dst)?;
    let mtu = forward::may_go_on(packet, headers, to.port).ok()??;
    work.to = flow.to;
    flow.follow(headers, DIRECTION, now);
    forward::note_endpoint(&mut work.hop, to, mtu, now);
    work.hop.port = from.port;
    work.hop.gateway = from.gateway;
    flow::keep_hop(headers, DIRECTION, &work.hop);
    let sent = rewrite::apply(packet, headers, &work.to)
        .and_then(|()| forward::into_endpoint(packet, headers, to));
    Some(sent.err().unwrap_or(Reason::Flow))
}

/// To an endpoint of the other family.
#[inline(always)]
fn across<P: Reshape, F: Across>(
    packet: &mut P,
    work: &mut Work<F>,
    first: bool,
    now: u64,
) -> Result<Reason, Reason> {
    if first {
        flow::limit::check::<F>(&work.headers.endpoints.src, now)?;
    }
    let reason = F::to_endpoint(packet, work, first);
    if first && reason == Reason::Nat64 {
        flow::limit::count::<F>(&work.headers.endpoints.src, now);
    }
    Ok(reason)
}

#[inline(always)]
fn pass<P: Buffered, F: Maps>(
    packet: &mut P,
    work: &mut Work<F>,
    known: bool,
    now: u64,
) -> Result<Reason, Reason> {
    let mut reason = Reason::Flow;
    if !known {
        open(packet, work, now)?;
        reason = Reason::Publish;
    }
    fragment::remember(&work.headers, DIRECTION, &work.to, now);
    rewrite::apply(packet, &work.headers, &work.to)?;
    Ok(reason)
}

#[inline(always)]
fn follow<P: Buffered, F: Maps>(
    packet: &mut P,
    work: &mut Work<F>,
    now: u64,
) -> Result<Reason, Reason> {
    fragment::follow(
        packet,
        &work.headers,
        &mut work.to,
        Direction::FromEndpoint,
        now,
    )
    .map_err(|reason| {
        if reason == Reason::FragmentWaits {
            return reason;
        }
        // Without a note it is a datagram for the host itself, as far as anyone can tell.
        Reason::ToHost
    })?;
    Ok(Reason::Fragment)
}

/// Opens the flow that is prepared.
#[inline(always)]
fn open<P: Buffered, F: Maps>(packet: &P, work: &mut Work<F>, now: u64) -> Result<(), Reason> {
    flow::limit::check::<F>(&work.headers.endpoints.src, now)?;
    if mapping::is_independent(work.headers.protocol) && is_outside(work) {
        masquerade::keep_port(packet, work, now)?;
    }
    masquerade::claim(packet, work)
}

/// Finds the binding that a first packet to a published port asks for, and says in `work.opening` where it leads.
///
/// Verifier: a sub-program, so that what it keeps on the stack is its own.
#[inline(never)]
fn lead<F: Maps>(work: &mut Work<F>, from: &Network, now: u64) -> Result<(), Reason> {
    let headers = &work.headers;
    let asked = &headers.endpoints;
    let protocol = headers.protocol;
    let binding = publish::binding::<F>(&asked.dst, asked.dport, protocol).ok_or(Reason::ToHost)?;
    if from.has(Network::INTERNAL) {
        return Err(Reason::Internal);
    }
    let local = maps::local::<F>(&asked.dst).ok_or(Reason::ToHost)?;
    publish::may_reach::<F>(&binding.to)?;
    allow::check(binding, &asked.src)?;
    if !flow::may_open(headers) {
        return Err(publish::stray());
    }
    work.source.addr = asked.dst;
    work.source.prefix = F::Addr::BITS;
    work.source.slot = local.slot;
    let opening = &mut work.opening;
    opening.tuple = Tuple::new(asked, protocol, Direction::FromEndpoint);
    opening.to.src = asked.dst;
    opening.to.dst = binding.to;
    opening.to.sport = asked.sport;
    opening.to.dport = binding.port;
    opening.direction = Direction::FromEndpoint;
    opening.flags = Flow::<F>::PUBLISHED | Flow::<F>::HAIRPIN;
    opening.binding = (binding.slot, 0);
    opening.address = (local.slot, maps::generation(local.slot));
    opening.bytes = u64::from(headers.length);
    opening.now = now;
    opening.fixed = false;
    opening.way_out = 0;
    publish::depend(opening).ok_or(Reason::ToHost)?;
    work.outer = opening.to;
    work.to = opening.to;
    Ok(())
}

/// Whether the address that was asked is one that the network outside knows: then the port shown is the one
/// that is shown there.
#[inline(always)]
fn is_outside<F: Maps>(work: &Work<F>) -> bool {
    maps::local::<F>(&work.source.addr)
        .is_some_and(|local| F::uplinks().get_ptr(local.ifindex).is_some())
}
