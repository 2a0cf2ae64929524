//! Masquerade: an endpoint's first packet takes the host's address, and a port there.

use aya_ebpf::bindings::BPF_NOEXIST;
use datapath_common::{
    conntrack::{Flow, timeouts::SECOND},
    mapping::{Mapping, MappingKey},
    network::Network,
    ports::MAX_TRIES,
    proto,
    reason::Reason,
    settings::{Settings, slots},
    tuple::{Direction, Endpoints, Tuple},
    uplink::UplinkAddress,
};

use super::publish;
use crate::{
    bpf,
    flow::{self, Opening},
    maps::{self, Maps, SETTINGS, Work},
    packet::{Packet, SocketTuple},
    parse::Headers,
};

const NOEXIST: u64 = BPF_NOEXIST as u64;

/// How much longer than its flows a mapping is kept.
const GRACE: u64 = 60 * SECOND;

/// Opens the flow that an endpoint's first packet asks for.
#[inline(never)]
pub fn open<P: Packet, F: Maps>(
    packet: &P,
    work: &mut Work<F>,
    network: &Network,
    now: u64,
) -> Result<(), Reason> {
    let Work {
        headers,
        to,
        opening,
        flow,
        source,
        half,
        ..
    } = work;
    if !network.has(Network::MASQUERADE) {
        keep_address(headers, opening, now)?;
    } else {
        if !flow::may_open(headers) {
            return Err(Reason::NoFlow);
        }
        let from = &headers.endpoints;
        // SAFETY: only read, and the entry's memory outlives the program's run.
        let uplink = unsafe { F::uplinks().get(packet.ifindex()) }.ok_or(Reason::NoAddress)?;
        *source = *uplink.source_for(&from.dst).ok_or(Reason::NoAddress)?;
        prepare(opening, headers, source, now);
        let settings = SETTINGS.get(0).ok_or(Reason::TableFull)?;
        if settings.flags & independent(headers.protocol) != 0 {
            opening.to.sport = map(packet, headers, source, half, now)?;
            opening.fixed = true;
        }
    }
    let (protocol, fixed) = (headers.protocol, opening.fixed);
    flow::open(opening, flow, |port| {
        fixed || usable::<P, F>(packet, protocol, &source.addr, port, &headers.endpoints)
    })?;
    *to = opening.to;
    Ok(())
}

#[inline(never)]
fn prepare<F: Maps>(
    opening: &mut Opening<F>,
    headers: &Headers<F>,
    source: &UplinkAddress<F>,
    now: u64,
) {
    opening.tuple = Tuple::new(
        &headers.endpoints,
        headers.protocol,
        Direction::FromEndpoint,
    );
    opening.to = headers.endpoints;
    opening.to.src = source.addr;
    opening.direction = Direction::FromEndpoint;
    opening.flags = 0;
    opening.binding = (slots::NOBODY, 0);
    opening.address = (source.slot, maps::generation(source.slot));
    opening.bytes = u64::from(headers.length);
    opening.now = now;
    opening.fixed = false;
}

/// A network that shows its own addresses: the flow is remembered, so that its answers are let in.
#[inline(never)]
fn keep_address<F: Maps>(
    headers: &Headers<F>,
    opening: &mut Opening<F>,
    now: u64,
) -> Result<(), Reason> {
    if !flow::may_open(headers) {
        return Err(Reason::Routed);
    }
    prepare(opening, headers, &UplinkAddress::NONE, now);
    opening.to.src = headers.endpoints.src;
    opening.flags = Flow::<F>::ROUTED;
    opening.fixed = true;
    Ok(())
}

/// The setting that makes a protocol's mappings endpoint-independent.
#[inline(always)]
const fn independent(protocol: u8) -> u32 {
    match protocol {
        proto::TCP => Settings::INDEPENDENT_TCP,
        proto::UDP => Settings::INDEPENDENT_UDP,
        _ => Settings::INDEPENDENT_ICMP,
    }
}

/// The port that this inside address and port shows to everybody: the one it has, or a new one.
#[inline(never)]
fn map<P: Packet, F: Maps>(
    packet: &P,
    headers: &Headers<F>,
    source: &UplinkAddress<F>,
    half: &mut Mapping<F>,
    now: u64,
) -> Result<u16, Reason> {
    let settings = SETTINGS.get(0).ok_or(Reason::TableFull)?;
    let generation = maps::generation(source.slot);
    let from = &headers.endpoints;
    let protocol = headers.protocol;
    let inside = MappingKey::new(from.src, from.sport, protocol, Direction::FromEndpoint);
    let deadline = now + settings.timeouts.mapping + GRACE;
    if let Some(found) = F::mappings().get_ptr_mut(inside) {
        // SAFETY: valid while the program runs.
        let mapping = unsafe { &mut *found };
        let current = mapping.slot == source.slot && mapping.generation == generation;
        if current && mapping.deadline > now {
            mapping.deadline = deadline;
            let outside =
                MappingKey::new(source.addr, mapping.port, protocol, Direction::ToEndpoint);
            if let Some(claim) = F::mappings().get_ptr_mut(outside) {
                // SAFETY: as above.
                let claim = unsafe { &mut *claim };
                if claim.addr == from.src && claim.port == from.sport {
                    claim.deadline = deadline;
                    return Ok(mapping.port);
                }
            }
        }
    }
    *half = Mapping {
        addr: from.src,
        port: from.sport,
        zero: 0,
        deadline,
        slot: source.slot,
        generation,
    };
    let mut port = from.sport;
    for attempt in 0..MAX_TRIES {
        if attempt > 0 {
            port = settings.ports.candidate(bpf::random());
        }
        if usable::<P, F>(packet, protocol, &source.addr, port, from)
            && claim(source, protocol, port, half, now)
        {
            half.addr = source.addr;
            half.port = port;
            let _ = F::mappings().insert(inside, &*half, 0);
            return Ok(port);
        }
    }
    Err(Reason::PortsExhausted)
}

/// Takes an outside port, unless somebody has it.
#[inline(never)]
fn claim<F: Maps>(
    source: &UplinkAddress<F>,
    protocol: u8,
    port: u16,
    half: &Mapping<F>,
    now: u64,
) -> bool {
    let outside = MappingKey::new(source.addr, port, protocol, Direction::ToEndpoint);
    if let Some(found) = F::mappings().get_ptr(outside) {
        // SAFETY: valid while the program runs.
        let held = unsafe { &*found };
        if held.deadline > now && held.generation == maps::generation(held.slot) {
            return false;
        }
        let _ = F::mappings().remove(outside);
    }
    F::mappings().insert(outside, half, NOEXIST).is_ok()
}

/// Whether a port may be taken as a source: not 0, not a published one, not a socket's of the host.
#[inline(never)]
fn usable<P: Packet, F: Maps>(
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
