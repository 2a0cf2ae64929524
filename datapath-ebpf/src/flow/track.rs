//! A packet's mark on its flow: counters, the idle clock, TCP's state, and promotion once it is answered.

use datapath_common::{
    conntrack::{
        Flow,
        tcp::{self, State},
        timeouts::SECOND,
    },
    proto,
    settings::slots,
    tuple::{Direction, Tuple},
};

use super::find::Tier;
use crate::{
    bpf::ANY,
    maps::{BINDING_STATS, Maps},
    nat::mapping,
    parse::Headers,
};

/// Follows one packet. Says whether the flow was promoted by it.
#[inline(always)]
pub fn track<F: Maps>(
    flow: &mut Flow<F>,
    headers: &Headers<F>,
    tuple: &Tuple<F>,
    direction: Direction,
    tier: Tier,
    now: u64,
) -> bool {
    let bytes = u64::from(headers.length);
    // One direction of a flow arrives at one queue, so on one CPU: no atomic is paid for.
    flow.packets += 1;
    flow.bytes += bytes;
    count(flow.binding, bytes, 0);
    let tcp = headers.protocol == proto::TCP;
    if tcp && headers.tcp_flags & proto::tcp::ACK != 0 {
        flow.acknowledged = headers.acknowledgment;
    }
    if flow.has(Flow::<F>::DOUBTED) && headers.tcp_flags & proto::tcp::RST == 0 {
        flow.flags &= !Flow::<F>::DOUBTED;
    }
    let original = flow.has(Flow::<F>::ORIGINAL);
    let next = |state: State| state.next(original, headers.tcp_flags, false);
    if !tcp || State::from_raw(flow.state).is_some_and(|state| next(state).refreshes()) {
        flow.last_seen = now;
    }
    if original && flow.mapping_due != 0 && now / SECOND >= u64::from(flow.mapping_due) {
        flow.mapping_due = mapping::push_forward(tuple, &flow.to, now);
    }
    let control =
        tcp && (headers.tcp_flags & proto::tcp::CONTROL != 0 || flow.state == State::SynRecv as u8);
    // Among the half-open, only an answer changes anything beside that.
    let answer = tier == Tier::Half && !original;
    // Last: a promoted entry is freed where it was, and at once another flow's.
    (control || answer) && attend(flow, headers, tuple, direction, tier)
}

/// Counts for a binding, if the flow came by one.
#[inline(always)]
pub fn count(binding: u32, bytes: u64, flows: u64) {
    if binding == slots::NOBODY {
        return;
    }
    if let Some(stats) = BINDING_STATS.get_ptr_mut(binding) {
        // SAFETY: this CPU's own place; nothing else runs on it meanwhile.
        unsafe {
            (*stats).packets += 1;
            (*stats).bytes += bytes;
            (*stats).flows += flows;
        }
    }
}

/// The side road: the state may change, or the flow may be answered for the first time. Says whether it was promoted.
#[inline(never)]
fn attend<F: Maps>(
    flow: &mut Flow<F>,
    headers: &Headers<F>,
    tuple: &Tuple<F>,
    direction: Direction,
    tier: Tier,
) -> bool {
    let partner_key = flow.partner(direction);
    let found = match tier {
        Tier::Established => F::flows().get_ptr_mut(&partner_key),
        Tier::Half => F::half().get_ptr_mut(&partner_key),
    };
    let Some(found) = found else { return false };
    // SAFETY: another entry than `flow`; its memory stays valid while the program runs.
    let partner = unsafe { &mut *found };
    if partner.id != flow.id {
        return false;
    }
    let original = flow.has(Flow::<F>::ORIGINAL);
    if !original {
        flow.flags |= Flow::<F>::ANSWERED;
        partner.flags |= Flow::<F>::ANSWERED;
    }
    let mut established = flow.has(Flow::<F>::ANSWERED);
    if headers.protocol == proto::TCP {
        let Some(state) = State::from_raw(flow.state) else {
            return false;
        };
        let exact = headers.sequence == partner.acknowledged;
        let next = state.next(original, headers.tcp_flags, exact);
        flow.state = next as u8;
        partner.state = next as u8;
        if headers.tcp_flags & proto::tcp::RST != 0
            && tcp::may_reset(headers.sequence, partner.acknowledged)
        {
            doubt(flow);
            doubt(partner);
        }
        established = !matches!(next, State::SynSent | State::SynRecv | State::Close);
    }
    established && tier == Tier::Half && promote(flow, partner, tuple, &partner_key)
}

/// Notes that the connection may be over. The fast path, which does not look at this, has to find the way anew.
#[inline(always)]
const fn doubt<F: Maps>(flow: &mut Flow<F>) {
    flow.flags |= Flow::<F>::DOUBTED;
    flow.hop.seen = 0;
}

/// Moves a flow to the tier that nothing evicts from. When that one is full the flow stays where it is, and `false` says
/// so.
///
/// Into the new tier before out of the old: a claim is in one of them at every moment.
#[inline(always)]
fn promote<F: Maps>(
    flow: &Flow<F>,
    partner: &Flow<F>,
    tuple: &Tuple<F>,
    partner_key: &Tuple<F>,
) -> bool {
    if F::flows().insert(tuple, flow, ANY).is_err() {
        return false;
    }
    if F::flows().insert(partner_key, partner, ANY).is_err() {
        let _ = F::flows().remove(tuple);
        return false;
    }
    let _ = F::half().remove(tuple);
    let _ = F::half().remove(partner_key);
    true
}
