//! What to do about a dropped packet that should have come through.

use datapath_common::reason::Reason;

/// One sentence for each reason that drops; `None` for the others.
#[must_use]
pub const fn remedy(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::Malformed | Reason::BadChecksum => {
            "Look at the sender, or at what lies between: the packet was broken when it arrived."
        }
        Reason::Martian => {
            "Nothing on this host: whoever sends it uses an address that no packet may carry."
        }
        Reason::Land => "Nothing: such a packet has no honest purpose.",
        Reason::Leak => {
            "Use a protocol that can be masqueraded (TCP, UDP, ping), or give the network addresses of its own \
             (`masquerade = false`)."
        }
        Reason::ForgedSource => {
            "Send from an address of the endpoint's own network, and by its own bridge; an endpoint's address never \
             comes from outside."
        }
        Reason::NoFlow => {
            "Open the connection anew: its flow has ended (idle for too long, flushed, or its port was withdrawn)."
        }
        Reason::PortsExhausted => {
            "Widen `[nat] ports`, give the uplink another address, or end flows with `datapath flows flush`."
        }
        Reason::EndpointLimit => {
            "Raise `[conntrack] max_flows_per_endpoint`, or look at what the endpoint does (`datapath flows --src`)."
        }
        Reason::NoAddress => "Give the uplink an address of this family.",
        Reason::TableFull => {
            "Raise `[conntrack] max_flows` (`datapath detach` and start anew), or end flows with `datapath flows flush`."
        }
        Reason::Unpublished => {
            "Publish the port (`docker run -p`, `datapath publish`), and dial the host's address, not the endpoint's."
        }
        Reason::Internal => {
            "Take `internal` off the network, or connect the endpoint to another one as well."
        }
        Reason::Isolated => {
            "Connect both endpoints to one network, or publish the port and dial the host's address."
        }
        Reason::FragmentWithoutFirst => {
            "Send smaller datagrams: fragments that come long before their first cannot be told apart."
        }
        Reason::IcmpErrorWithoutFlow => "Nothing: the flow that it is about has ended.",
        Reason::RewriteFailed => {
            "Report it, with the kernel's version: the kernel refused a change that it should take."
        }
        Reason::HopLimit => "Send with a higher TTL, or look for a routing loop.",
        Reason::NoNetwork => "Let the published port lead to an endpoint of a managed network.",
        Reason::NotAllowed => {
            "Add the source's network to the port's allow-list (`datapath allow`, or where the port is published)."
        }
        Reason::Nat64NotPlain => {
            "Give the endpoint an IPv6 address: between the families whole packets without options are translated."
        }
        Reason::Nat64TooBig => {
            "Send smaller datagrams, give the bridge an MTU 20 bytes below the uplink's, or give the endpoint an IPv6 \
             address."
        }
        Reason::NotIp
        | Reason::NotOurs
        | Reason::NotForHost
        | Reason::Vlan
        | Reason::UntrackedProtocol
        | Reason::ExtensionHeaders
        | Reason::ToHost
        | Reason::Routed
        | Reason::CrossFamily
        | Reason::FragmentWaits
        | Reason::FragmentAlone
        | Reason::OlderConnection
        | Reason::Masquerade
        | Reason::Publish
        | Reason::Flow
        | Reason::IcmpError
        | Reason::Nat64
        | Reason::Fragment
        | Reason::OwnFlow => return None,
    })
}

#[cfg(test)]
mod tests {
    use datapath_common::reason::Outcome;

    use super::*;

    #[test]
    fn every_drop_has_one() {
        for reason in Reason::ALL {
            assert_eq!(
                remedy(*reason).is_some(),
                reason.outcome() == Outcome::Drop,
                "{reason:?}"
            );
        }
    }
}
