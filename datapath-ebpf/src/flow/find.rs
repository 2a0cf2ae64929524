//! One lookup: the flow that a packet belongs to, if it lives.

use datapath_common::{
    conntrack::{Flow, timeouts::SECOND},
    family::Family,
    settings::{Settings, slots},
    tuple::{Direction, Endpoints, Tuple},
    way::{HOP_LIFETIME, Hop},
};

use super::track;
use crate::{
    maps::{self, Maps, SETTINGS},
    parse::Headers,
};

/// Where an entry was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    Established,
    Half,
}

/// Finds the packet's flow, follows its state, and writes to `to` what the packet's addresses and ports
/// become. `uplink` is the one that a packet from an endpoint leaves by. Says where the flow is by now: the packet may
/// have been the answer that establishes it.
#[inline(never)]
pub fn find<F: Maps>(
    headers: &Headers<F>,
    direction: Direction,
    uplink: u32,
    to: &mut Endpoints<F>,
    now: u64,
) -> Option<Tier> {
    let tuple = Tuple::new(&headers.endpoints, headers.protocol, direction);
    let (entry, tier) = look(&tuple)?;
    // SAFETY: an entry's memory stays an entry's while the program runs (RCU), though perhaps another's.
    let flow = unsafe { &mut *entry };
    if flow.has_moved(direction, uplink) || !is_alive(flow, direction, tier, now) {
        retire(&tuple, flow.partner(direction), flow.id);
        return None;
    }
    *to = flow.to;
    // What follows may free the entry, or another CPU may have: then it is a new flow's by now. A half-open one
    // that is still found where it was is the one that was read.
    if tier == Tier::Half && F::half().get_ptr(&tuple) != Some(entry.cast_const()) {
        // SAFETY: copied at once.
        *to = unsafe { &*F::flows().get_ptr(&tuple)? }.to;
        return Some(tier);
    }
    if track::track(flow, headers, &tuple, direction, tier, now) {
        return Some(Tier::Established);
    }
    Some(tier)
}

/// The entry of this key, in either tier.
#[inline(always)]
pub fn look<F: Maps>(key: &Tuple<F>) -> Option<(*mut Flow<F>, Tier)> {
    match F::flows().get_ptr_mut(key) {
        Some(entry) => Some((entry, Tier::Established)),
        None => Some((F::half().get_ptr_mut(key)?, Tier::Half)),
    }
}

/// The entry of this key, if its flow lives. Nothing is changed by the look.
#[inline(never)]
pub fn living<F: Maps>(key: &Tuple<F>, now: u64) -> Option<&'static Flow<F>> {
    let direction = Direction::from_raw(key.direction)?;
    let (entry, tier) = look(key)?;
    // SAFETY: as in `find`, and only read.
    let flow = unsafe { &*entry };
    is_alive(flow, direction, tier, now).then_some(flow)
}

/// Keeps in an established flow where its packets go without the stack, for the fast path (`fast.rs`): that one does
/// not ask whether the flow has been idle for too long, so one that may be over before the hop is keeps none, nor does
/// one of which it is doubted.
#[inline(never)]
pub fn keep_hop<F: Maps>(headers: &Headers<F>, direction: Direction, hop: &Hop) {
    let tuple = Tuple::new(&headers.endpoints, headers.protocol, direction);
    let (Some(entry), Some(settings)) = (F::flows().get_ptr_mut(&tuple), SETTINGS.get(0)) else {
        return;
    };
    // SAFETY: as in `find`.
    let flow = unsafe { &mut *entry };
    if !flow.has(Flow::<F>::DOUBTED) && flow.timeout(&settings.timeouts) >= HOP_LIFETIME * SECOND {
        flow.hop = *hop;
    }
}

/// What is known of a packet's flow by a look that changes nothing.
pub enum Known<F: Family> {
    /// It lives, and is established.
    Established(Established<F>),
    /// There is one, but it is half-open, or over: [`find`] knows what to do about it.
    Otherwise,
    /// There is none.
    Not,
}

/// An established flow's entry, for the packet that it was found by.
pub struct Established<F: Family> {
    /// What the packet's addresses and ports become.
    pub to: Endpoints<F>,
    entry: *mut Flow<F>,
}

/// Looks for the packet's flow.
#[inline(always)]
pub fn established<F: Maps>(headers: &Headers<F>, direction: Direction, now: u64) -> Known<F> {
    let tuple = Tuple::new(&headers.endpoints, headers.protocol, direction);
    let Some(entry) = F::flows().get_ptr_mut(&tuple) else {
        return match F::half().get_ptr(&tuple) {
            Some(_) => Known::Otherwise,
            None => Known::Not,
        };
    };
    // SAFETY: as in `find`.
    let flow = unsafe { &*entry };
    if !is_alive(flow, direction, Tier::Established, now) {
        return Known::Otherwise;
    }
    Known::Established(Established { to: flow.to, entry })
}

impl<F: Maps> Established<F> {
    /// Whether all of `flags` are set.
    #[inline(always)]
    pub fn has(&self, flags: u8) -> bool {
        // SAFETY: as in `find`.
        unsafe { (*self.entry).flags & flags == flags }
    }

    /// Follows the flow's state by the packet.
    #[inline(always)]
    pub fn follow(self, headers: &Headers<F>, direction: Direction, now: u64) {
        let tuple = Tuple::new(&headers.endpoints, headers.protocol, direction);
        // SAFETY: as in `find`.
        let flow = unsafe { &mut *self.entry };
        let _it_was = track::track(flow, headers, &tuple, direction, Tier::Established, now);
    }
}

/// Whether the flow still means something: nothing that it depends on has changed, and it is in use.
#[inline(always)]
pub fn is_alive<F: Maps>(flow: &Flow<F>, direction: Direction, tier: Tier, now: u64) -> bool {
    match SETTINGS.get(0) {
        Some(settings) => is_current(flow) && is_fresh(flow, direction, tier, settings, now),
        None => false,
    }
}

/// Whether the binding and the address that the flow depends on are those it was opened with.
#[inline(always)]
pub fn is_current<F: Maps>(flow: &Flow<F>) -> bool {
    (flow.binding == slots::NOBODY || maps::generation(flow.binding) == flow.binding_generation)
        && (flow.address == slots::NOBODY
            || maps::generation(flow.address) == flow.address_generation)
}

/// Whether the flow has not been idle for too long, in either direction. A half-open one must also have its
/// partner still: the LRU map evicts entries one by one, and a flow lives and dies whole.
#[inline(always)]
fn is_fresh<F: Maps>(
    flow: &Flow<F>,
    direction: Direction,
    tier: Tier,
    settings: &Settings,
    now: u64,
) -> bool {
    let expired = flow.is_expired(&settings.timeouts, now);
    if !expired && tier == Tier::Established {
        return true;
    }
    let partner = flow.partner(direction);
    let found = match tier {
        Tier::Established => F::flows().get_ptr(&partner),
        Tier::Half => F::half().get_ptr(&partner),
    };
    let Some(found) = found else { return false };
    // SAFETY: as in `find`.
    let other = unsafe { &*found };
    other.id == flow.id && (!expired || !other.is_expired(&settings.timeouts, now))
}

/// Takes both entries of a flow out, each only if it is that flow's still: another CPU may have taken them out, and opened
/// the next one there.
#[inline(never)]
pub fn retire<F: Maps>(tuple: &Tuple<F>, partner: Tuple<F>, id: u64) {
    remove(tuple, id);
    remove(&partner, id);
}

#[inline(always)]
fn remove<F: Maps>(key: &Tuple<F>, id: u64) {
    if let Some(found) = F::flows().get_ptr(key)
        // SAFETY: as in `find`.
        && unsafe { (*found).id } == id
    {
        let _ = F::flows().remove(key);
    }
    if let Some(found) = F::half().get_ptr(key)
        // SAFETY: as in `find`.
        && unsafe { (*found).id } == id
    {
        let _ = F::half().remove(key);
    }
}
