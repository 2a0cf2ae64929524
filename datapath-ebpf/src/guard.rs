//! What is recognised before anything is translated: frames of others, martians, forged sources, networks
//! that may not meet, and addresses that must not leak.

use datapath_common::{
    family::{Address as _, Family},
    network::Network,
    reason::Reason,
};

use crate::{
    maps::{self, Maps},
    nat::publish,
    packet::Packet,
    parse::{ETHERNET, Headers, Kind},
};

/// Frames that are not this host's alone, or belong to a VLAN's interface, are the kernel's business.
#[inline(always)]
pub fn frame<P: Packet>(packet: &P) -> Result<(), Reason> {
    if !packet.is_for_host() {
        return Err(Reason::NotForHost);
    }
    if packet.is_of_vlan() {
        return Err(Reason::Vlan);
    }
    Ok(())
}

/// A packet from outside that belongs to no flow. Passing means that it may open one.
#[inline(always)]
pub fn arriving<F: Maps>(headers: &Headers<F>) -> Result<(), Reason> {
    let (src, dst) = (&headers.endpoints.src, &headers.endpoints.dst);
    if dst.is_loopback() {
        // Whatever the host's `route_localnet` says: its loopback addresses are its own.
        return Err(Reason::Martian);
    }
    if maps::local::<F>(dst).is_none() {
        match maps::network::<F>(dst) {
            Some(network) if network.has(Network::INTERNAL) => return Err(Reason::Internal),
            Some(network) if shows(network, headers) => {}
            // An endpoint of a network that shows its addresses: this very port of it is published there.
            Some(_) if publish::is_on::<F>(dst, headers.endpoints.dport, headers.protocol) => {}
            Some(_) => return Err(Reason::Unpublished),
            None => return Err(Reason::NotOurs),
        }
    }
    if src == dst {
        return Err(Reason::Land);
    }
    if maps::network::<F>(src).is_some() {
        return Err(Reason::ForgedSource);
    }
    Ok(())
}

/// Whether a network's endpoints are reached by their own addresses with such packets, whatever is published.
#[inline(always)]
pub fn shows<F: Family>(network: &Network, headers: &Headers<F>) -> bool {
    network.has(Network::ROUTED) || network.has(Network::ICMP) && headers.kind == Kind::Query
}

/// Whose packet it is that leaves by an uplink: an endpoint's, or none of ours.
#[inline(always)]
pub fn leaving<F: Maps>(headers: &Headers<F>) -> Result<&'static Network, Reason> {
    match maps::network::<F>(&headers.endpoints.src) {
        None => Err(Reason::NotOurs),
        Some(network) if network.has(Network::INTERNAL) => Err(Reason::Internal),
        Some(network) => Ok(network),
    }
}

/// The leak guard for packets that could not be parsed to the end: if the source is an endpoint's, and its
/// network does not show its own addresses, it stays in.
#[inline(never)]
pub fn unparsed<P: Packet, F: Maps>(packet: &P, reason: Reason) -> Reason {
    let Ok(src) = packet.read::<F::Addr>(ETHERNET + F::ADDRESSES) else {
        return reason;
    };
    match maps::network::<F>(&src) {
        Some(network) if network.has(Network::MASQUERADE) => Reason::Leak,
        Some(network) if network.has(Network::INTERNAL) => Reason::Internal,
        Some(_) => Reason::Routed,
        None => reason,
    }
}

/// What an endpoint may send through its bridge into the host. Passing means that it is for an address of the
/// host.
#[inline(always)]
pub fn endpoint<P: Packet, F: Maps>(
    packet: &P,
    headers: &Headers<F>,
) -> Result<&'static Network, Reason> {
    let (src, dst) = (&headers.endpoints.src, &headers.endpoints.dst);
    if is_link_local::<F>(src) || is_link_local::<F>(dst) {
        return Err(Reason::NotOurs);
    }
    let Some(from) = maps::network::<F>(src) else {
        return Err(if src.is_unicast() {
            Reason::ForgedSource
        } else {
            Reason::NotOurs
        });
    };
    if from.bridge != packet.ifindex() {
        return Err(Reason::ForgedSource);
    }
    if maps::local::<F>(dst).is_some() {
        return Ok(from);
    }
    if dst.is_loopback() {
        return Err(Reason::Martian);
    }
    Err(match maps::network::<F>(dst) {
        Some(to) if to.bridge == from.bridge => Reason::NotOurs,
        Some(_) => Reason::Isolated,
        None if from.has(Network::INTERNAL) => Reason::Internal,
        None => Reason::NotOurs,
    })
}

/// fe80::/10: never leaves its link, so neighbour discovery and its like are left alone.
#[inline(always)]
fn is_link_local<F: Family>(addr: &F::Addr) -> bool {
    F::VERSION == 6 && addr.same_prefix(&F::LINK_LOCAL, 10)
}
