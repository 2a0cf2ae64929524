//! How many flows one endpoint may have (RFC 6888, REQ-4 and REQ-5).
//!
//! Flows end in many ways (an LRU map evicts them unseen), so nobody counts down. The programs count what an endpoint
//! opens; the service counts from time to time what it has, and notes how much had been opened by then. An endpoint has
//! what it had at that count, and what it opened since: too many by those that ended since, never too few.
//!
//! Where nobody counts for long, for there is no service, no limit holds: nothing in the kernel depends on it.

/// What an endpoint has opened.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Flows, since the entry was made.
    pub flows: u64,
    /// When that was.
    pub since: u64,
}

/// What an endpoint had when that was counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Flows that lived.
    pub flows: u64,
    /// [`Opened::flows`] before the count began.
    pub opened: u64,
    /// When that was.
    pub at: u64,
}

/// Whether an endpoint may open another flow. `patience` is how old a count may be to be believed, in nanoseconds.
#[must_use]
#[inline(always)]
pub const fn may_open(opened: &Opened, held: &Held, limit: u32, patience: u64, now: u64) -> bool {
    let since = opened.flows.saturating_sub(held.opened);
    let counted = if held.at > opened.since {
        held.at
    } else {
        opened.since
    };
    held.flows.saturating_add(since) < limit as u64 || now.saturating_sub(counted) > patience
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: u64 = 90;

    fn may(opened: u64, held: (u64, u64), now: u64) -> bool {
        let opened = Opened {
            flows: opened,
            since: 100,
        };
        let held = Held {
            flows: held.0,
            opened: held.1,
            at: 150,
        };
        may_open(&opened, &held, 10, PATIENCE, now)
    }

    #[test]
    fn what_is_held_and_what_was_opened_since_is_added() {
        assert!(may(59, (0, 50), 160));
        assert!(!may(60, (0, 50), 160));
        assert!(may(54, (5, 50), 160));
        assert!(!may(55, (5, 50), 160));
        assert!(!may(50, (10, 50), 160));
        // The entry was made anew: nothing is known to have been opened since.
        assert!(may(1, (9, 50), 160));
    }

    #[test]
    fn without_a_count_no_limit_holds_for_long() {
        assert!(!may(60, (0, 50), 150 + PATIENCE));
        assert!(may(60, (0, 50), 151 + PATIENCE));
        let never = |now| {
            let opened = Opened {
                flows: 10,
                since: 100,
            };
            may_open(&opened, &Held::default(), 10, PATIENCE, now)
        };
        assert!(!never(100 + PATIENCE));
        assert!(never(101 + PATIENCE));
    }
}
