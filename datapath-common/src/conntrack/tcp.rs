//! TCP's states, as a translator in the middle follows them.
//!
//! Fewer than nf_conntrack's (net/netfilter/nf_conntrack_proto_tcp.c), because only what changes a timeout
//! or lets a connection begin anew matters here; sequence windows are left to the two ends, except that a
//! reset has to be exact to count (RFC 5961, 3.2).

use crate::proto::tcp::{ACK, FIN, RST, SYN};

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// The opener's SYN was seen.
    SynSent = 1,
    /// The other side answered, with SYN-ACK or with a SYN of its own (simultaneous open).
    SynRecv = 2,
    /// The handshake is complete.
    Established = 3,
    /// The opener has closed its half.
    FinOriginal = 4,
    /// The other side has closed its half.
    FinReply = 5,
    /// Both have closed.
    TimeWait = 6,
    /// Reset.
    Close = 7,
}

impl State {
    /// The state for a map's byte, or `None` for a byte that no version wrote.
    #[must_use]
    #[inline(always)]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::SynSent),
            2 => Some(Self::SynRecv),
            3 => Some(Self::Established),
            4 => Some(Self::FinOriginal),
            5 => Some(Self::FinReply),
            6 => Some(Self::TimeWait),
            7 => Some(Self::Close),
            _ => None,
        }
    }

    /// `conntrack -L`'s name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinOriginal => "FIN_WAIT",
            Self::FinReply => "CLOSE_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
        }
    }

    /// Whether a fresh SYN of the opener begins a new connection on the same tuple (RFC 9293, 3.6.1).
    #[must_use]
    #[inline(always)]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Close)
    }

    /// Whether the packets of this state refresh the flow. Those after a reset do not: they could keep a
    /// dead connection for ever (RFC 7857, 2).
    #[must_use]
    #[inline(always)]
    pub const fn refreshes(self) -> bool {
        !matches!(self, Self::Close)
    }

    /// The state after a segment.
    ///
    /// `original` tells whether the opener sent it; `exact_reset`, whether a RST stands exactly where the
    /// other side's acknowledgments do.
    #[must_use]
    #[inline(always)]
    pub const fn next(self, original: bool, flags: u8, exact_reset: bool) -> Self {
        if flags & RST != 0 {
            return if exact_reset { Self::Close } else { self };
        }
        if flags & SYN != 0 {
            return self.after_syn(original, flags);
        }
        // The opener's ACK completes the handshake, or the other side's after a simultaneous open.
        let state = if matches!(self, Self::SynRecv) && flags & ACK != 0 {
            Self::Established
        } else {
            self
        };
        if flags & FIN == 0 {
            return state;
        }
        match (state, original) {
            (Self::Established | Self::SynRecv, true) => Self::FinOriginal,
            (Self::Established | Self::SynRecv, false) => Self::FinReply,
            (Self::FinReply, true) | (Self::FinOriginal, false) => Self::TimeWait,
            (other, _) => other,
        }
    }

    const fn after_syn(self, original: bool, flags: u8) -> Self {
        if matches!(self, Self::SynSent) && !original {
            // SYN-ACK, or the other half of a simultaneous open.
            Self::SynRecv
        } else if self.is_over() && original && flags & ACK == 0 {
            Self::SynSent
        } else {
            // Retransmissions, and SYNs on a live connection: the ends sort it out by a challenge
            // (RFC 5961, 4.2), which must find its way.
            self
        }
    }
}

/// As far as a receive window goes in practice (Linux gives a socket 6 MiB, `net.ipv4.tcp_rmem`).
const WINDOW: u32 = 1 << 24;

/// Whether a reset at this sequence number may count, though it does not stand exactly where the other side's last
/// acknowledgment did: what was sent in between may have arrived, and not been acknowledged yet (RFC 5961, 3.2).
#[must_use]
#[inline(always)]
pub const fn may_reset(sequence: u32, acknowledged: u32) -> bool {
    sequence.wrapping_sub(acknowledged) < WINDOW
}

/// Whether a segment with these flags may open a connection: SYN, and nothing that contradicts it.
#[must_use]
#[inline(always)]
pub const fn may_open(flags: u8) -> bool {
    flags & (SYN | ACK | RST | FIN) == SYN
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORIGINAL: bool = true;
    const REPLY: bool = false;

    fn walk(mut state: State, segments: &[(bool, u8, State)]) {
        for (step, (original, flags, expected)) in segments.iter().enumerate() {
            state = state.next(*original, *flags, true);
            assert_eq!(state, *expected, "after segment {step}");
        }
    }

    #[test]
    fn an_ordinary_connection() {
        walk(
            State::SynSent,
            &[
                (ORIGINAL, SYN, State::SynSent),
                (REPLY, SYN | ACK, State::SynRecv),
                (ORIGINAL, ACK, State::Established),
                (ORIGINAL, ACK, State::Established),
                (REPLY, ACK, State::Established),
                (ORIGINAL, FIN | ACK, State::FinOriginal),
                (REPLY, ACK, State::FinOriginal),
                (REPLY, FIN | ACK, State::TimeWait),
                (ORIGINAL, ACK, State::TimeWait),
                (ORIGINAL, SYN, State::SynSent),
            ],
        );
    }

    #[test]
    fn a_simultaneous_open() {
        walk(
            State::SynSent,
            &[
                (REPLY, SYN, State::SynRecv),
                (ORIGINAL, SYN | ACK, State::SynRecv),
                (REPLY, SYN | ACK, State::SynRecv),
                (ORIGINAL, ACK, State::Established),
            ],
        );
    }

    #[test]
    fn the_answerer_may_close_first() {
        walk(
            State::Established,
            &[
                (REPLY, FIN | ACK, State::FinReply),
                (ORIGINAL, ACK, State::FinReply),
                (ORIGINAL, FIN | ACK, State::TimeWait),
            ],
        );
    }

    #[test]
    fn only_an_exact_reset_counts() {
        let state = State::Established;
        assert_eq!(state.next(REPLY, RST | ACK, false), State::Established);
        assert_eq!(state.next(REPLY, RST | ACK, true), State::Close);
    }

    #[test]
    fn a_reset_ahead_of_the_last_acknowledgment_may_count() {
        for (sequence, acknowledged, may) in [
            (1000, 1000, true),
            (1001, 1000, true),
            (999, 1000, false),
            (5, u32::MAX - 5, true),
            (u32::MAX - 5, 5, false),
            (1000 + WINDOW - 1, 1000, true),
            (1000 + WINDOW, 1000, false),
        ] {
            assert_eq!(may_reset(sequence, acknowledged), may, "{sequence}");
        }
    }

    #[test]
    fn a_reset_connection_begins_anew_by_the_opener_alone() {
        assert_eq!(State::Close.next(ORIGINAL, SYN, false), State::SynSent);
        assert_eq!(State::Close.next(REPLY, SYN, false), State::Close);
        assert_eq!(State::Close.next(ORIGINAL, SYN | ACK, false), State::Close);
    }

    #[test]
    fn what_may_open() {
        for flags in 0..=u8::MAX {
            let opens = flags & 0x17 == SYN;
            assert_eq!(may_open(flags), opens, "{flags:#x}");
        }
    }

    proptest! {
        /// Whatever comes, an established connection ends only by a FIN of each side or an exact reset.
        #[test]
        fn nothing_else_ends_a_connection(
            segments in proptest::collection::vec((any::<bool>(), any::<u8>()), 0..40)
        ) {
            let (mut state, mut closed) = (State::Established, [false; 2]);
            for (original, flags) in segments {
                state = state.next(original, flags, false);
                closed[usize::from(original)] |= flags & (FIN | SYN | RST) == FIN;
                if !(closed[0] && closed[1]) {
                    prop_assert!(!state.is_over(), "{state:?}");
                }
            }
        }
    }
}
