//! How long an idle flow is kept. The names are nf_conntrack's, and so are the defaults, except where the
//! RFCs demand more.

use super::tcp::State;

/// A second, in nanoseconds.
pub const SECOND: u64 = 1_000_000_000;

/// Timeouts, each in nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// SYN seen, no answer yet. 240 s: "transitory connection idle-timeout" of RFC 5382, REQ-5.
    pub tcp_syn_sent: u64,
    /// SYN and SYN-ACK seen. 240 s, by the same clause.
    pub tcp_syn_recv: u64,
    /// Established. 5 days, as nf_conntrack; RFC 5382, REQ-5 demands 2 h 4 min at least.
    pub tcp_established: u64,
    /// One side has closed and the other may still send. 2 h 4 min: such a connection is not transitory
    /// for the side that sends.
    pub tcp_fin_wait: u64,
    /// Both sides have closed. 240 s (RFC 7857, 2).
    pub tcp_time_wait: u64,
    /// Reset. 240 s (RFC 7857, 2: the state is kept 4 minutes).
    pub tcp_close: u64,
    /// UDP, unanswered. 120 s: the least that RFC 4787, REQ-5 allows.
    pub udp: u64,
    /// UDP, answered. 300 s: what that clause recommends.
    pub udp_stream: u64,
    /// ICMP queries. 60 s (RFC 5508, REQ-2).
    pub icmp: u64,
    /// How long a mapping outlives the last flow that used it: as `udp_stream`.
    pub mapping: u64,
}

impl Timeouts {
    /// What holds when the configuration file says nothing.
    pub const DEFAULT: Self = Self {
        tcp_syn_sent: 240 * SECOND,
        tcp_syn_recv: 240 * SECOND,
        tcp_established: 5 * 24 * 3600 * SECOND,
        tcp_fin_wait: 7_440 * SECOND,
        tcp_time_wait: 240 * SECOND,
        tcp_close: 240 * SECOND,
        udp: 120 * SECOND,
        udp_stream: 300 * SECOND,
        icmp: 60 * SECOND,
        mapping: 300 * SECOND,
    };

    /// The timeout of a TCP state. One that no version wrote is over at once.
    #[must_use]
    #[inline(always)]
    pub const fn tcp(&self, state: Option<State>) -> u64 {
        match state {
            Some(State::SynSent) => self.tcp_syn_sent,
            Some(State::SynRecv) => self.tcp_syn_recv,
            Some(State::Established) => self.tcp_established,
            Some(State::FinOriginal | State::FinReply) => self.tcp_fin_wait,
            Some(State::TimeWait) => self.tcp_time_wait,
            Some(State::Close) => self.tcp_close,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_what_the_rfcs_demand() {
        let default = Timeouts::DEFAULT;
        for (what, timeout, least) in [
            ("RFC 4787, REQ-5", default.udp, 120),
            ("RFC 4787, REQ-5, recommended", default.udp_stream, 300),
            ("RFC 4787, REQ-5, of the mapping", default.mapping, 300),
            ("RFC 5508, REQ-2", default.icmp, 60),
            (
                "RFC 5382, REQ-5, established",
                default.tcp_established,
                7_440,
            ),
            ("RFC 5382, REQ-5, half closed", default.tcp_fin_wait, 7_440),
            ("RFC 5382, REQ-5, transitory", default.tcp_syn_sent, 240),
            ("RFC 5382, REQ-5, transitory", default.tcp_syn_recv, 240),
            ("RFC 7857, 2.1", default.tcp_time_wait, 240),
            ("RFC 7857, 2.2", default.tcp_close, 240),
        ] {
            assert!(timeout >= least * SECOND, "{what}: {timeout}");
        }
    }
}
