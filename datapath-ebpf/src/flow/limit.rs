//! How many flows an endpoint may have: looked at when it opens one, and never after. See
//! [`datapath_common::limit`].
//!
//! What is opened from outside, to a published port, is not counted: else strangers could use up what an endpoint has.

use datapath_common::{
    family::Address as _,
    limit::{self, Held, Opened},
    reason::Reason,
    settings::Settings,
};

use crate::{
    bpf::NOEXIST,
    maps::{self, Maps, SETTINGS},
};

/// Whether an endpoint may open another flow.
#[inline(never)]
pub fn check<F: Maps>(endpoint: &F::Addr, now: u64) -> Result<(), Reason> {
    let Some(settings) = SETTINGS.get(0) else {
        return Ok(());
    };
    if settings.flows_per_endpoint == 0 {
        return Ok(());
    }
    let account = account::<F>(endpoint);
    // SAFETY: both are only read, and an entry's memory outlives the program's run.
    let (opened, held) = unsafe { (F::opened().get(&account), F::held().get(&account)) };
    let (none, nothing) = (Opened::default(), Held::default());
    let (opened, held) = (opened.unwrap_or(&none), held.unwrap_or(&nothing));
    let (limit, patience) = (settings.flows_per_endpoint, settings.count_patience);
    if limit::may_open(opened, held, limit, patience, now) {
        Ok(())
    } else {
        Err(Reason::EndpointLimit)
    }
}

/// Counts a flow that it opened.
#[inline(never)]
pub fn count<F: Maps>(endpoint: &F::Addr, now: u64) {
    let off = |settings: &Settings| settings.flows_per_endpoint == 0;
    if SETTINGS.get(0).is_none_or(off) {
        return;
    }
    let account = account::<F>(endpoint);
    if F::opened().get_ptr(&account).is_none() {
        let first = Opened {
            flows: 0,
            since: now,
        };
        // Another CPU may have been first, or there is no room: then the next line finds it, or does not.
        let _ = F::opened().insert(&account, &first, NOEXIST);
    }
    if let Some(opened) = F::opened().get_ptr_mut(&account) {
        // SAFETY: valid while the program runs. Two CPUs at the same moment may count as one; the next count of what
        // there is puts that right.
        unsafe { (*opened).flows += 1 };
    }
}

/// Whose count it is. Addresses at which no endpoint is known have one together, so that nobody gets another limit by
/// sending from another address.
#[inline(always)]
fn account<F: Maps>(endpoint: &F::Addr) -> F::Addr {
    match maps::endpoint::<F>(endpoint) {
        Some(_) => *endpoint,
        None => F::Addr::UNSPECIFIED,
    }
}
