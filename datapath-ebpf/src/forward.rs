//! A translated packet sent on its way without the stack, as a router would: one hop less to live, and the
//! next link's header.
//!
//! What cannot be sent so (too big, no hop left, options to be looked at, a way that is not known) is left to
//! the stack, which answers as it always does.

use datapath_common::{
    checksum,
    family::Family,
    reason::Reason,
    settings::{Settings, slots},
    way::{Endpoint, Hop, HopKey, Mac},
};

use crate::{
    bpf::ANY,
    flow::Tier,
    maps::{self, Maps, SETTINGS, Work},
    nat::rewrite::HEADER_CHECKSUM,
    packet::{Buffered, Packet, reshape::Reshape},
    parse::{Headers, Kind},
};

/// Whether packets may pass by the stack, and so by the host's own forward chains.
#[inline(always)]
pub fn is_allowed<F: Family>() -> bool {
    let flag = if F::VERSION == 4 {
        Settings::FAST4
    } else {
        Settings::FAST6
    };
    SETTINGS
        .get(0)
        .is_some_and(|settings| settings.flags & flag != 0)
}

/// Whether the stack is to see where a packet from outside comes from, before others of its flow pass by it.
#[inline(always)]
pub fn asks_the_stack<F: Family>(tier: Option<Tier>) -> bool {
    F::VERSION == 4
        && tier != Some(Tier::Established)
        && SETTINGS
            .get(0)
            .is_some_and(|settings| settings.flags & Settings::SOURCE_CHECK != 0)
}

/// Into the endpoint that has `work.to.dst`, at once, if it is known where it is. Otherwise the stack takes it
/// there. Says whether it was sent, by `work.hop`.
#[inline(always)]
pub fn to_endpoint<P: Buffered, F: Maps>(
    packet: &mut P,
    work: &mut Work<F>,
    now: u64,
) -> Result<bool, Reason> {
    if !is_allowed::<F>() || !is_plain(&work.headers) {
        return Ok(false);
    }
    let Some(endpoint) = maps::endpoint::<F>(&work.to.dst) else {
        return Ok(false);
    };
    let Some(mtu) = may_go_on(packet, &work.headers, endpoint.port)? else {
        return Ok(false);
    };
    into_endpoint(packet, &work.headers, endpoint)?;
    note_endpoint(&mut work.hop, endpoint, mtu, now);
    Ok(true)
}

/// Into an endpoint, at once.
#[inline(always)]
pub fn into_endpoint<P: Buffered, F: Family>(
    packet: &mut P,
    headers: &Headers<F>,
    endpoint: &Endpoint,
) -> Result<(), Reason> {
    one_hop_less(packet, headers)?;
    packet.write(0, &in_words(endpoint.frame()))?;
    packet.redirect_peer(endpoint.port)
}

/// Writes down the hop into an endpoint, as an established flow keeps it.
///
/// Verifier: a sub-program, so that what it keeps on the stack is its own.
#[inline(never)]
pub fn note_endpoint(hop: &mut Hop, endpoint: &Endpoint, mtu: u32, now: u64) {
    *hop = Hop {
        seen: now,
        generation: maps::generation(slots::WAYS),
        uplink: endpoint.port,
        frame: endpoint.frame(),
        mtu: at_most(mtu),
        ..Hop::NONE
    };
}

/// An MTU in sixteen bits.
#[inline(always)]
fn at_most(mtu: u32) -> u16 {
    mtu.min(u32::from(u16::MAX)) as u16
}

/// Out of the bridge that leads to `work.to.dst`, which the kernel's neighbour table resolves. For packets
/// whose source is the host's already: one that re-entered the stack would be a martian there.
#[inline(always)]
pub fn to_neighbour<P: Buffered, F: Maps>(packet: &mut P, work: &Work<F>) -> Result<(), Reason> {
    let network = maps::network::<F>(&work.to.dst).ok_or(Reason::NoNetwork)?;
    one_hop_less(packet, &work.headers)?;
    packet.redirect_neighbour::<F>(network.bridge, &work.to.dst)
}

/// Out of an interface by the route that the host has there. For packets that were never the stack's.
#[inline(always)]
pub fn to_route<P: Reshape, F: Family>(
    packet: &mut P,
    headers: &Headers<F>,
    ifindex: u32,
) -> Result<(), Reason> {
    one_hop_less(packet, headers)?;
    packet.redirect_routed(ifindex)
}

/// Out of the uplink, with the header of the frames that went this way before.
#[inline(always)]
pub fn to_hop<P: Buffered, F: Family>(
    packet: &mut P,
    headers: &Headers<F>,
    hop: &Hop,
) -> Result<(), Reason> {
    one_hop_less(packet, headers)?;
    packet.write(0, &in_words(hop.frame))?;
    packet.redirect(hop.uplink)
}

/// Finds the next hop for a packet that came in by an endpoint's port, if the packet came as it should, the hop was
/// seen lately, and the packet can go there. It is in `work.hop` then.
#[inline(always)]
pub fn hop<P: Packet, F: Maps>(packet: &P, work: &mut Work<F>, now: u64) -> Option<()> {
    if !is_plain(&work.headers) {
        return None;
    }
    let ends = &work.headers.endpoints;
    let key = HopKey::<F> {
        src: ends.src,
        dst: ends.dst,
    };
    // SAFETY: only read, and the entry's memory outlives the program's run.
    let found = unsafe { F::hops().get(&key) };
    let generation = maps::generation(slots::WAYS);
    let frame: [Mac; 2] = packet.read(0).ok()?;
    match found {
        Some(hop) if hop.generation == generation && hop.port == packet.ifindex() => {
            if !hop.is_fresh(now) || hop.gateway != frame[0] {
                return None;
            }
            let mtu = may_go_on(packet, &work.headers, hop.uplink).ok()??;
            work.hop = *hop;
            work.hop.mtu = at_most(mtu);
            Some(())
        }
        _ => {
            let endpoint = maps::endpoint::<F>(&key.src)?;
            if is_from(endpoint, packet.ifindex(), &frame) {
                work.hop = Hop {
                    generation,
                    port: endpoint.port,
                    gateway: endpoint.gateway,
                    ..Hop::NONE
                };
                let _ = F::hops().insert(&key, &work.hop, ANY);
            }
            None
        }
    }
}

/// Notes how a packet leaves that its endpoint's port has asked about.
#[inline(never)]
pub fn note_hop<P: Packet, F: Maps>(packet: &P, work: &mut Work<F>, now: u64) {
    let ends = &work.headers.endpoints;
    let key = HopKey::<F> {
        src: ends.src,
        dst: ends.dst,
    };
    // SAFETY: as in `hop`.
    let Some(hop) = (unsafe { F::hops().get(&key) }) else {
        return;
    };
    let Ok(frame) = packet.read::<[Mac; 2]>(0) else {
        return;
    };
    let known = hop.uplink == packet.ifindex() && hop.frame == frame && hop.is_fresh(now);
    if known || packet.has_vlan() || hop.generation != maps::generation(slots::WAYS) {
        return;
    }
    work.hop = *hop;
    work.hop.seen = now;
    work.hop.uplink = packet.ifindex();
    work.hop.frame = frame;
    let _ = F::hops().insert(&key, &work.hop, ANY);
}

/// A frame's Ethernet addresses in words, as the packet takes them fastest.
#[inline(always)]
pub fn in_words(frame: [Mac; 2]) -> [u16; 6] {
    let [[a, b, c, d, e, f], [g, h, i, j, k, l]] = frame;
    [[a, b], [c, d], [e, f], [g, h], [i, j], [k, l]].map(u16::from_ne_bytes)
}

/// Whether a frame came from this endpoint, by its port, for the host to send on.
#[inline(always)]
pub fn is_from(endpoint: &Endpoint, port: u32, frame: &[Mac; 2]) -> bool {
    endpoint.port == port && *frame == [endpoint.gateway, endpoint.mac]
}

/// Whether nothing in the packet asks for more than its addresses and ports to be looked at.
#[inline(always)]
pub fn is_plain<F: Family>(headers: &Headers<F>) -> bool {
    let transport = matches!(headers.kind, Kind::Tcp | Kind::Udp | Kind::Query);
    transport && !headers.fragmented && headers.l4 - headers.l3 == F::HEADER
}

/// The MTU of the interface, if that is still there, the packet fits, and has a hop left to live.
#[inline(always)]
pub fn may_go_on<P: Packet, F: Family>(
    packet: &P,
    headers: &Headers<F>,
    ifindex: u32,
) -> Result<Option<u32>, Reason> {
    let hops: u8 = packet.read(headers.l3 + F::HOP_LIMIT)?;
    if hops <= 1 {
        return Ok(None);
    }
    Ok(packet.fits(ifindex))
}

/// Counts the hop limit (IPv4's time to live) down. A packet that has no hop left ends here.
#[inline(always)]
pub fn one_hop_less<P: Packet, F: Family>(
    packet: &mut P,
    headers: &Headers<F>,
) -> Result<(), Reason> {
    let offset = headers.l3 + F::HOP_LIMIT;
    let old: u8 = packet.read(offset)?;
    if old <= 1 {
        return Err(Reason::HopLimit);
    }
    let difference = counted_down::<F>(old);
    if F::HEADER_CHECKSUM {
        packet.mend_header_checksum(headers.l3 + HEADER_CHECKSUM, difference)?;
    } else {
        packet.add_to_sum(difference);
    }
    packet.write(offset, &(old - 1))
}

/// What counting a hop limit down adds to a sum that covers it.
#[inline(always)]
pub fn counted_down<F: Family>(old: u8) -> u32 {
    // It is the first byte of its 16-bit word in IPv4, and the second in IPv6.
    let word = |limit: u8| match F::HOP_LIMIT % 2 {
        0 => u32::from_ne_bytes([limit, 0, 0, 0]),
        _ => u32::from_ne_bytes([0, limit, 0, 0]),
    };
    checksum::difference(&[word(old)], &[word(old.wrapping_sub(1))])
}
