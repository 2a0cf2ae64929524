//! Published ports: the first packet from outside finds its binding.

use datapath_common::{
    binding::{Binding, BindingKey},
    conntrack::Flow,
    family::Address as _,
    network::Network,
    reason::Reason,
    settings::{Settings, slots},
    tuple::{Direction, Tuple},
};

use super::{allow, link_local};
use crate::{
    flow::{self, Opening},
    guard,
    maps::{self, Maps, SETTINGS, Work},
    parse::{Headers, Kind},
};

/// Opens the flow that a first packet from outside asks for, to a published port or to an endpoint that shows its own
/// address; or prepares it, for an endpoint of the other family.
#[inline(never)]
pub fn open<F: Maps>(work: &mut Work<F>, uplink: u32, now: u64) -> Result<(), Reason> {
    prepare(work, now)?;
    if link_local::is_client(work) {
        link_local::take_address(work, uplink)?;
    }
    let Work {
        to, opening, flow, ..
    } = work;
    if opening.binding.0 != slots::NOBODY {
        depend(opening).ok_or(Reason::NotOurs)?;
    }
    // One of the other family's endpoints gets another source: see `nat64`.
    if !F::is_foreign(&opening.to.dst) {
        flow::open(opening, flow, |_| true)?;
    }
    *to = opening.to;
    Ok(())
}

/// What is to be opened, but for the binding's generation. The room that it takes on the stack is given back before the
/// search for a port begins: a chain of calls has 512 bytes, and kernels before 6.9 count each call's in steps of 32.
#[inline(never)]
fn prepare<F: Maps>(work: &mut Work<F>, now: u64) -> Result<(), Reason> {
    let Work {
        headers, opening, ..
    } = work;
    let from = &headers.endpoints;
    *opening = Opening {
        tuple: Tuple::new(from, headers.protocol, Direction::ToEndpoint),
        to: *from,
        direction: Direction::ToEndpoint,
        flags: Flow::<F>::ROUTED,
        binding: (slots::NOBODY, 0),
        address: (slots::NOBODY, 0),
        bytes: u64::from(headers.length),
        now,
        fixed: false,
        way_out: 0,
        answers: Tuple::NONE,
    };
    let local = maps::local::<F>(&from.dst);
    if local.is_none() && shows_itself(headers) {
        // Remembered, so that its answers go out with the endpoint's address.
        return may_ask(headers);
    }
    let binding = asked(headers)?;
    opening.to.dst = binding.to;
    opening.to.dport = binding.port;
    opening.flags = Flow::<F>::PUBLISHED;
    opening.binding.0 = binding.slot;
    if let Some(local) = local {
        opening.address = (local.slot, maps::generation(local.slot));
    }
    Ok(())
}

/// Whether a packet, for none of the host's addresses, is for an endpoint that is reached by its own.
#[inline(always)]
fn shows_itself<F: Maps>(headers: &Headers<F>) -> bool {
    maps::network::<F>(&headers.endpoints.dst)
        .is_some_and(|network| guard::by_own_address(network, headers.kind == Kind::Query).is_ok())
}

/// Whether a packet may open a flow to such an endpoint; the others go there all the same.
#[inline(always)]
fn may_ask<F: Maps>(headers: &Headers<F>) -> Result<(), Reason> {
    let src = &headers.endpoints.src;
    // What has a link-local source is not for another link (RFC 4291, 2.5.6).
    if !src.is_unicast() || guard::is_link_local::<F>(src) {
        return Err(Reason::Martian);
    }
    if !flow::may_open(headers) {
        return Err(Reason::Routed);
    }
    Ok(())
}

/// The binding that a packet of no flow asks for, if it may.
#[inline(always)]
pub fn asked<F: Maps>(headers: &Headers<F>) -> Result<&'static Binding<F>, Reason> {
    let from = &headers.endpoints;
    let binding = binding::<F>(&from.dst, from.dport, headers.protocol).ok_or(Reason::NotOurs)?;
    // Nobody answers to some addresses, and the host's own packets never come from outside. What is for the host
    // itself its stack judges, which may be told to accept them (net/ipv4/fib_frontend.c, `fib_validate_source`).
    if !from.src.is_unicast() || maps::local::<F>(&from.src).is_some() {
        return Err(Reason::Martian);
    }
    may_reach::<F>(&binding.to)?;
    allow::check(binding, &from.src)?;
    if !flow::may_open(headers) {
        return Err(stray());
    }
    Ok(binding)
}

/// Why a packet to a published port is not translated that belongs to no flow, and may open none.
#[inline(always)]
pub fn stray() -> Reason {
    let settings = SETTINGS.get(0);
    if settings.is_some_and(|settings| settings.flags & Settings::BESIDE != 0) {
        Reason::OlderConnection
    } else {
        Reason::NoFlow
    }
}

/// Has what is prepared depend on the binding that it was prepared by, of whose slot it bears the generation; `None`
/// where that is gone by now, or another's. Who withdraws a port takes the binding away and raises the generation then:
/// looked at in this order, no flow of a withdrawn port is born with the new generation.
#[inline(never)]
pub fn depend<F: Maps>(opening: &mut Opening<F>) -> Option<()> {
    let (slot, to) = (opening.binding.0, &opening.to);
    let generation = maps::generation(slot);
    let asked = &opening.tuple;
    let still = binding::<F>(&asked.dst, asked.dport, asked.protocol)?;
    // The slot of one that is gone may be another's, which leads elsewhere.
    let same = still.slot == slot && still.to == to.dst && still.port == to.dport;
    opening.binding.1 = generation;
    same.then_some(())
}

/// Whether anybody but the host may reach this endpoint: those of an internal network are nobody's.
#[inline(always)]
pub fn may_reach<F: Maps>(endpoint: &F::Addr) -> Result<(), Reason> {
    match maps::network::<F>(endpoint) {
        Some(network) if network.has(Network::INTERNAL) => Err(Reason::Internal),
        _ => Ok(()),
    }
}

/// The binding for an address and port of the host: one on that very address before one on every address.
#[inline(always)]
pub fn binding<F: Maps>(addr: &F::Addr, port: u16, protocol: u8) -> Option<&'static Binding<F>> {
    let exact = BindingKey::new(*addr, port, protocol);
    let every = BindingKey::new(F::Addr::UNSPECIFIED, port, protocol);
    // SAFETY: only read, and the entry's memory outlives the program's run.
    unsafe {
        F::bindings()
            .get(exact)
            .or_else(|| F::bindings().get(every))
    }
}

/// Whether a port is published on this very address.
#[inline(always)]
pub fn is_on<F: Maps>(addr: &F::Addr, port: u16, protocol: u8) -> bool {
    let exact = BindingKey::<F>::new(*addr, port, protocol);
    // SAFETY: only looked whether it is there.
    unsafe { F::bindings().get(exact) }.is_some()
}
