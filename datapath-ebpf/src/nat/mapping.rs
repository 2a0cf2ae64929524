//! Endpoint-independent mappings (RFC 4787, REQ-1): one inside address and port shows one outside port to
//! everybody.

use datapath_common::{
    conntrack::timeouts::SECOND,
    mapping::{Mapping, MappingKey},
    ports::{MAX_TRIES, PortRange},
    proto,
    reason::Reason,
    settings::Settings,
    tuple::{Direction, Endpoints, Tuple},
    uplink::UplinkAddress,
};

use super::masquerade;
use crate::{
    bpf::{self, NOEXIST},
    maps::{self, Maps, SETTINGS},
    packet::Buffered,
    parse::Headers,
};

/// How much longer than its flows a mapping is kept.
const GRACE: u64 = 60 * SECOND;

/// Whether a protocol's mappings are to be endpoint-independent.
#[inline(always)]
pub fn is_independent(protocol: u8) -> bool {
    let flag = match protocol {
        proto::TCP => Settings::INDEPENDENT_TCP,
        proto::UDP => Settings::INDEPENDENT_UDP,
        _ => Settings::INDEPENDENT_ICMP,
    };
    SETTINGS
        .get(0)
        .is_some_and(|settings| settings.flags & flag != 0)
}

/// The port that this inside address and port shows to everybody: the one it has, or a new one. It is left in
/// `half`, which is then the inside's half of the mapping.
///
/// Verifier: a port and a reason returned in one register would be put together from a pointer's bits.
#[inline(never)]
pub fn port<P: Buffered, F: Maps>(
    packet: &P,
    headers: &Headers<F>,
    source: &UplinkAddress<F>,
    half: &mut Mapping<F>,
    now: u64,
) -> Result<(), Reason> {
    let settings = SETTINGS.get(0).ok_or(Reason::TableFull)?;
    let generation = maps::generation(source.slot);
    let from = &headers.endpoints;
    let protocol = headers.protocol;
    let inside = MappingKey::new(from.src, from.sport, protocol, Direction::FromEndpoint);
    let deadline = now + settings.timeouts.mapping + GRACE;
    let mut wish = from.sport;
    if let Some(found) = F::mappings().get_ptr_mut(inside) {
        // SAFETY: valid while the program runs.
        let mapping = unsafe { &mut *found };
        if is_alive(mapping, now) {
            // Also where another address of the host is shown: the same port there, if it can be had.
            wish = mapping.port;
            if mapping.slot == source.slot {
                mapping.deadline = deadline;
                let outside = MappingKey::new(source.addr, wish, protocol, Direction::ToEndpoint);
                if let Some(claim) = F::mappings().get_ptr_mut(outside) {
                    // SAFETY: as above.
                    let claim = unsafe { &mut *claim };
                    // Unless it was published meanwhile, or a process of the host has taken it for its own.
                    if claim.addr == from.src
                        && claim.port == from.sport
                        && masquerade::usable::<P, F>(packet, protocol, &source.addr, wish, from)
                    {
                        claim.deadline = deadline;
                        half.port = wish;
                        return Ok(());
                    }
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
    let mut search = Search {
        packet,
        headers,
        source,
        half,
        wish,
        ports: settings.ports,
        random: bpf::random(),
        now,
        found: None,
    };
    bpf::until(MAX_TRIES, &mut search, attempt::<P, F>);
    let port = search.found.ok_or(Reason::PortsExhausted)?;
    half.addr = source.addr;
    half.port = port;
    let _ = F::mappings().insert(inside, &*half, 0);
    Ok(())
}

/// A flow's own packets keep the mapping that it uses, until a while after the last of them. Returns when that
/// is to be done again, in seconds of the kernel's clock: twice in the time that a mapping is kept.
#[inline(never)]
pub fn push_forward<F: Maps>(tuple: &Tuple<F>, to: &Endpoints<F>, now: u64) -> u32 {
    let Some(settings) = SETTINGS.get(0) else {
        return 0;
    };
    let deadline = now + settings.timeouts.mapping + GRACE;
    let protocol = tuple.protocol;
    let inside = MappingKey::new(tuple.src, tuple.sport, protocol, Direction::FromEndpoint);
    let outside = MappingKey::new(to.src, to.sport, protocol, Direction::ToEndpoint);
    for (key, addr, port) in [
        (inside, to.src, to.sport),
        (outside, tuple.src, tuple.sport),
    ] {
        if let Some(found) = F::mappings().get_ptr_mut(key) {
            // SAFETY: valid while the program runs.
            let mapping = unsafe { &mut *found };
            if mapping.addr == addr && mapping.port == port {
                mapping.deadline = deadline;
            }
        }
    }
    next_push(settings, now)
}

/// When a flow that uses a mapping pushes it forward next.
#[inline(always)]
pub fn next_push(settings: &Settings, now: u64) -> u32 {
    ((now + settings.timeouts.mapping / 2) / SECOND) as u32
}

/// A search for an outside port.
struct Search<'a, P, F: Maps> {
    packet: &'a P,
    headers: &'a Headers<F>,
    source: &'a UplinkAddress<F>,
    half: &'a Mapping<F>,
    /// The port that is tried first.
    wish: u16,
    ports: PortRange,
    random: u32,
    now: u64,
    found: Option<u16>,
}

/// One attempt: the port that is wished for, then others. Says whether the search is over.
extern "C" fn attempt<P: Buffered, F: Maps>(number: u64, search: &mut Search<'_, P, F>) -> i64 {
    let from = &search.headers.endpoints;
    let protocol = search.headers.protocol;
    let port = match number {
        0 => search.wish,
        _ => {
            let ports = search.ports;
            ports.in_place_of(from.sport, protocol, search.random, number as u32)
        }
    };
    let free = masquerade::usable::<P, F>(search.packet, protocol, &search.source.addr, port, from)
        && claim(search.source, protocol, port, search.half, search.now);
    if free {
        search.found = Some(port);
    }
    i64::from(free)
}

/// Takes an outside port, unless somebody else has it.
#[inline(never)]
fn claim<F: Maps>(
    source: &UplinkAddress<F>,
    protocol: u8,
    port: u16,
    half: &Mapping<F>,
    now: u64,
) -> bool {
    let outside = MappingKey::new(source.addr, port, protocol, Direction::ToEndpoint);
    if let Some(found) = F::mappings().get_ptr_mut(outside) {
        // SAFETY: valid while the program runs.
        let held = unsafe { &mut *found };
        if is_alive(held, now) {
            let own = held.addr == half.addr && held.port == half.port;
            if own {
                held.deadline = half.deadline;
            }
            return own;
        }
        let _ = F::mappings().remove(outside);
    }
    F::mappings().insert(outside, half, NOEXIST).is_ok()
}

/// Whether somebody's mapping shows this port.
#[inline(never)]
pub fn is_held<F: Maps>(addr: &F::Addr, protocol: u8, port: u16, now: u64) -> bool {
    let outside = MappingKey::new(*addr, port, protocol, Direction::ToEndpoint);
    // SAFETY: only read, and the entry's memory outlives the program's run.
    unsafe { F::mappings().get(outside) }.is_some_and(|held| is_alive(held, now))
}

/// Whether a mapping still counts: its time is not over, and the host still has the address.
#[inline(always)]
fn is_alive<F: Maps>(mapping: &Mapping<F>, now: u64) -> bool {
    mapping.deadline > now && mapping.generation == maps::generation(mapping.slot)
}
