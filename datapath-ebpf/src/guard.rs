//! What is recognised before anything is translated: frames of others, martians, forged sources, networks
//! that may not meet, and addresses that must not leak.

use datapath_common::{
    family::{Address as _, Family},
    network::Network,
    reason::{Outcome, Reason},
    tuple::Tuple,
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

/// Whether a packet from outside is one that [`arriving`] would find to be none of ours, whatever the tables of flows and
/// of published ports say: they have nothing to do with the port.
#[inline(always)]
pub fn is_for_host_alone<F: Maps>(tuple: &Tuple<F>) -> bool {
    !maps::may_be_ours(tuple.dport)
        && tuple.src != tuple.dst
        && !tuple.src.is_loopback()
        && maps::local::<F>(&tuple.dst).is_some()
        && !tuple.dst.is_loopback()
        && maps::network::<F>(&tuple.src).is_none()
}

/// A packet from outside that belongs to no flow. Passing means that it may open one.
#[inline(always)]
pub fn arriving<F: Maps>(headers: &Headers<F>) -> Result<(), Reason> {
    let (src, dst) = (&headers.endpoints.src, &headers.endpoints.dst);
    if src.is_loopback() || dst.is_loopback() {
        // Whatever the host's `route_localnet` says: its loopback addresses are its own.
        return Err(Reason::Martian);
    }
    if maps::local::<F>(dst).is_none() {
        let network = maps::network::<F>(dst).ok_or(Reason::NotOurs)?;
        match by_own_address(network, headers.kind == Kind::Query) {
            // An endpoint of a network that shows its addresses: this very port of it is published there.
            Err(Reason::Unpublished)
                if publish::is_on::<F>(dst, headers.endpoints.dport, headers.protocol) => {}
            may => may?,
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

/// What becomes of a packet from outside that is not tracked, as `reason` says: another protocol, or headers that are not
/// followed. It may not do what no other may.
#[inline(never)]
pub fn untracked_arriving<F: Maps>(headers: &Headers<F>, reason: Reason) -> Reason {
    let dst = &headers.endpoints.dst;
    if reason.outcome() != Outcome::Pass || maps::local::<F>(dst).is_some() {
        return reason;
    }
    let icmp = headers.protocol == F::ICMP;
    match maps::network::<F>(dst).map(|network| by_own_address(network, icmp)) {
        Some(Err(refused)) => refused,
        Some(Ok(())) | None => reason,
    }
}

/// The same of a packet from an endpoint, at its bridge.
#[inline(never)]
pub fn untracked_endpoint<P: Packet, F: Maps>(
    packet: &P,
    headers: &Headers<F>,
    reason: Reason,
) -> Reason {
    if reason.outcome() != Outcome::Pass {
        return reason;
    }
    match endpoint(packet, headers) {
        Err(refused) if refused.outcome() == Outcome::Drop => refused,
        _ => reason,
    }
}

/// Whether packets from outside, `icmp` or others, reach a network's endpoints by their own addresses, whatever is
/// published.
#[inline(always)]
pub fn by_own_address(network: &Network, icmp: bool) -> Result<(), Reason> {
    if network.has(Network::INTERNAL) {
        Err(Reason::Internal)
    } else if network.has(Network::ROUTED) || icmp && network.has(Network::ICMP) {
        Ok(())
    } else {
        Err(Reason::Unpublished)
    }
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
        return Err(match src {
            _ if src.is_loopback() => Reason::Martian,
            _ if src.is_unicast() => Reason::ForgedSource,
            _ => Reason::NotOurs,
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
        // Neighbours that the bridge keeps apart do not meet by way of the host either.
        Some(to) if to.bridge == from.bridge && from.has(Network::ICC) => Reason::NotOurs,
        Some(_) => Reason::Isolated,
        None if from.has(Network::INTERNAL) => Reason::Internal,
        None => Reason::NotOurs,
    })
}

/// fe80::/10: never leaves its link, so neighbour discovery and its like are left alone.
#[inline(always)]
pub fn is_link_local<F: Family>(addr: &F::Addr) -> bool {
    F::VERSION == 6 && addr.same_prefix(&F::LINK_LOCAL, 10)
}
