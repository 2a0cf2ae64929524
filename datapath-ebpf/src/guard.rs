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

/// EtherTypes of VLAN tags: IEEE 802.1Q and 802.1ad.
pub const TAGS: [u16; 2] = [0x8100, 0x88a8];

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

/// What becomes of a frame that [`frame`] refused. The stack takes a datagram that is for one machine also in a frame for
/// many: the host's loopback addresses are not reached by that.
#[inline(never)]
pub fn for_many<P: Packet, F: Family>(packet: &P, refused: Reason) -> Reason {
    if refused != Reason::NotForHost {
        return refused;
    }
    let addresses = ETHERNET + F::ADDRESSES;
    let behind = addresses + size_of::<F::Addr>() as u32;
    let is_loopback = |offset| {
        packet
            .read::<F::Addr>(offset)
            .is_ok_and(|addr| addr.is_loopback())
    };
    if is_loopback(addresses) || is_loopback(behind) {
        Reason::Martian
    } else {
        refused
    }
}

/// A frame that carries no IP, as far as its EtherType says. Of tags that name no VLAN the kernel takes out any number,
/// and what is left is IP again (net/core/dev.c, `__netif_receive_skb_core`): nobody needs more than one of them.
#[inline(always)]
pub fn other<P: Packet>(packet: &P) -> Reason {
    /// `VLAN_VID_MASK` of include/linux/if_vlan.h.
    const VLAN: u16 = 0x0fff;
    let outer = packet.has_vlan() && !packet.is_of_vlan();
    if outer && TAGS.contains(&packet.ethertype()) {
        let inner: u16 = packet.read(ETHERNET).map_or(0, u16::from_be);
        if inner & VLAN == 0 {
            return Reason::Malformed;
        }
    }
    Reason::NotIp
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
        let Some(network) = maps::network::<F>(dst) else {
            // For the stack to send on, if it does: where it leaves, it would be taken for an endpoint's.
            return Err(from_outside::<F>(src).err().unwrap_or(Reason::NotOurs));
        };
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
    from_outside::<F>(src)
}

/// Whether somebody outside may have this address.
#[inline(always)]
pub fn from_outside<F: Maps>(src: &F::Addr) -> Result<(), Reason> {
    if maps::network::<F>(src).is_some() {
        Err(Reason::ForgedSource)
    } else if src.is_loopback() {
        Err(Reason::Martian)
    } else {
        Ok(())
    }
}

/// What becomes of a packet from outside that is not tracked, as `reason` says: another protocol, or headers that are not
/// followed. It may not do what no other may.
#[inline(never)]
pub fn untracked_arriving<F: Maps>(headers: &Headers<F>, reason: Reason) -> Reason {
    let (src, dst) = (&headers.endpoints.src, &headers.endpoints.dst);
    if reason.outcome() != Outcome::Pass || maps::local::<F>(dst).is_some() {
        return reason;
    }
    let icmp = headers.protocol == F::ICMP;
    let may = match maps::network::<F>(dst) {
        Some(network) => by_own_address(network, icmp),
        None => Ok(()),
    };
    may.and_then(|()| from_outside::<F>(src))
        .err()
        .unwrap_or(reason)
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
    if is_link_local::<F>(src) {
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
    if is_link_local::<F>(dst) {
        return Err(Reason::NotOurs);
    }
    if maps::local::<F>(dst).is_some() {
        // The host's own address on the bridge is no endpoint's.
        return match maps::local::<F>(src) {
            Some(_) => Err(Reason::ForgedSource),
            None => Ok(from),
        };
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
