//! Why a packet was translated, left alone or dropped: one table, from which the names, the outcomes and
//! the documentation come.
//!
//! A reason has one outcome, on every hook. Its number is part of the ABI and is never used again.

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Translated, and sent on its way.
    Translate,
    /// Left to the kernel, untouched.
    Pass,
    /// Dropped.
    Drop,
}

impl Outcome {
    /// The name as people see it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Translate => "translate",
            Self::Pass => "pass",
            Self::Drop => "drop",
        }
    }
}

/// What one CPU counted for one reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReasonCount {
    /// Packets. One that the network card or the kernel joined from several counts once.
    pub packets: u64,
    /// Bytes of those packets.
    pub bytes: u64,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal, $outcome:ident;)+) => {
        /// Why a packet was translated, left alone or dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Reason {
            /// Every reason, by number.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// How many places the map of counters has: room for reasons to come.
            pub const PLACES: u32 = 64;

            /// The name as people see it: in tables, JSON and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What becomes of such a packet.
            #[must_use]
            #[inline(always)]
            pub const fn outcome(self) -> Outcome {
                match self { $(Self::$name => Outcome::$outcome,)+ }
            }

            /// Whether such a drop is something that the operator should hear of without asking: it means that
            /// something ran out, or is not as it should be.
            #[must_use]
            #[inline(always)]
            pub const fn is_alarming(self) -> bool {
                matches!(
                    self,
                    Self::PortsExhausted
                        | Self::NoAddress
                        | Self::TableFull
                        | Self::RewriteFailed
                        | Self::EndpointLimit
                )
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// The reason for a number, or `None` for one that this version does not know.
            #[must_use]
            pub const fn from_raw(raw: u32) -> Option<Self> {
                match raw { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// Neither IPv4 nor IPv6.
    NotIp = 0, "not-ip", Pass;
    /// Nothing of ours: no published port, no flow, no managed network.
    NotOurs = 1, "not-ours", Pass;
    /// The frame is addressed to another machine, or to many.
    NotForHost = 2, "not-for-host", Pass;
    /// The frame carries a VLAN tag, so it belongs to another interface.
    Vlan = 3, "vlan", Pass;
    /// A protocol that has no ports and is not an ICMP query: not translated.
    UntrackedProtocol = 4, "untracked-protocol", Pass;
    /// More IPv6 extension headers than are followed, or a routing header with a stop to come.
    ExtensionHeaders = 5, "extension-headers", Pass;
    /// To one of the host's own addresses, from an endpoint: the host's firewall decides.
    ToHost = 6, "to-host", Pass;
    /// From a network that keeps its own addresses (`masquerade = false`).
    Routed = 7, "routed", Pass;
    /// Between an IPv6 client and an IPv4 endpoint, while that is not translated: a rule of the host stands where it
    /// would pass unseen, or the endpoint is behind no bridge with an IPv4 address.
    CrossFamily = 8, "cross-family", Pass;
    /// A later fragment that came before its first: back in its interface's queue, to be looked at again soon.
    FragmentWaits = 9, "fragment-waits", Pass;
    /// A later fragment to the host whose first did not come in time. It may be of a datagram for the host itself.
    FragmentAlone = 10, "fragment-alone", Pass;
    /// To a published port, of no flow and none that may open one, while the host's own NAT translates what arrives:
    /// the connection may be the kernel's, from before.
    OlderConnection = 12, "older-connection", Pass;

    /// First packet of an outgoing flow: it took the host's address.
    Masquerade = 16, "masquerade", Translate;
    /// First packet of an incoming flow: it went to the endpoint behind a published port.
    Publish = 17, "publish", Translate;
    /// A packet of a flow that exists.
    Flow = 18, "flow", Translate;
    /// An ICMP error about a flow: outside and inside were translated.
    IcmpError = 19, "icmp-error", Translate;
    /// A later fragment: it followed the first.
    Fragment = 20, "fragment", Translate;
    /// First packet of a flow of the host's own whose answers would be taken for an endpoint's: it shows another port, or
    /// its own if that is only published.
    OwnFlow = 21, "own-flow", Translate;
    /// Between an IPv6 client and an IPv4 endpoint, either way: one family's header was made the other's.
    Nat64 = 23, "nat64", Translate;

    /// The frame ends before the headers that it announces, a length in them contradicts another, or there is more than
    /// one tag that names no VLAN.
    Malformed = 32, "malformed", Drop;
    /// An address that no packet on a wire may carry (RFC 1812, 5.3.7; RFC 6890).
    Martian = 33, "martian", Drop;
    /// Source and destination are the same address and port.
    Land = 34, "land", Drop;
    /// An endpoint's address was about to leave by an uplink untranslated.
    Leak = 35, "leak", Drop;
    /// An endpoint sent from an address that its network does not have.
    ForgedSource = 36, "forged-source", Drop;
    /// A packet that may not open a flow (no SYN, or an answer), and no flow that it belongs to.
    NoFlow = 37, "no-flow", Drop;
    /// No free source port was found within the bounded number of tries (see `[nat] ports`).
    PortsExhausted = 38, "ports-exhausted", Drop;
    /// The uplink has no address of this family to masquerade with.
    NoAddress = 39, "no-address", Drop;
    /// The flow tables had no room.
    TableFull = 40, "table-full", Drop;
    /// From outside, to an endpoint's own address, where no port was published.
    Unpublished = 41, "unpublished", Drop;
    /// To or from a network that is internal.
    Internal = 42, "internal", Drop;
    /// From one managed network to another, or to a neighbour in one whose endpoints are kept apart (`icc = false`).
    Isolated = 43, "isolated", Drop;
    /// A later fragment of a datagram whose first was not seen.
    FragmentWithoutFirst = 44, "fragment-without-first", Drop;
    /// An ICMP error about a packet that belongs to no flow.
    IcmpErrorWithoutFlow = 45, "icmp-error-without-flow", Drop;
    /// The kernel refused to change the packet.
    RewriteFailed = 46, "rewrite-failed", Drop;
    /// An ICMP message whose checksum is wrong (RFC 5508, REQ-3).
    BadChecksum = 47, "bad-checksum", Drop;
    /// No hop left to live: the packet would have been sent on, past the stack.
    HopLimit = 48, "hop-limit", Drop;
    /// A published port leads to an address outside every managed network, and an endpoint asked for it.
    NoNetwork = 49, "no-network", Drop;
    /// To a published port whose allow-list does not name the source.
    NotAllowed = 53, "not-allowed", Drop;
    /// Between an IPv6 client and an IPv4 endpoint: a fragment, options, extension headers, or an ICMP message that
    /// the other family has no word for.
    Nat64NotPlain = 56, "nat64-not-plain", Drop;
    /// Between an IPv6 client and an IPv4 endpoint: too big for the way out once it is translated.
    Nat64TooBig = 57, "nat64-too-big", Drop;
    /// An endpoint has as many flows as it may have (`[conntrack] max_flows_per_endpoint`).
    EndpointLimit = 62, "endpoint-limit", Drop;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_fit_the_map() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!((*reason as u32) < Reason::PLACES, "{reason:?}");
            assert_eq!(Reason::from_raw(*reason as u32), Some(*reason));
            assert!(!reason.meaning().is_empty());
        }
    }

    #[test]
    fn outcomes_keep_to_their_block_of_numbers() {
        for reason in Reason::ALL {
            let block = match *reason as u32 {
                0..=15 => Outcome::Pass,
                16..=31 => Outcome::Translate,
                _ => Outcome::Drop,
            };
            assert_eq!(reason.outcome(), block, "{reason:?}");
        }
    }
}
