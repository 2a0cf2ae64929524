//! Packets of known flows, past the stack: what the program on an endpoint's port sends out, and what it leaves to
//! the bridge.

use datapath_common::reason::Reason;
use datapath_tests::lab::{run, wait_until};

use crate::{
    case::{GO_ON, REDIRECT},
    frame::{Frame, HOST, udp},
    host::{Hook, Host, Net, nets},
};

/// Ethernet addresses of the endpoint and of the neighbour outside.
const ENDPOINT: [u8; 6] = [0x02, 0, 0, 0, 0, 0x17];
const WORLD: [u8; 6] = [0x02, 0, 0, 0, 0, 0x09];

/// A host that sends past its stack, and IPv4, whose stack forwards there.
fn host() -> (Host, Net) {
    let host = Host::with("forwarding = \"fast\"", "");
    for (netns, card) in [
        (&host.lab.container, "02:00:00:00:00:17"),
        (&host.lab.lan, "02:00:00:00:00:09"),
    ] {
        netns.ip(&format!("link set eth0 address {card}"));
    }
    (host, nets()[0])
}

/// A datagram from the endpoint to its gateway, for somebody outside.
fn sent(net: &Net) -> Frame {
    udp(net.endpoint(1234), net.world(53)).ethernet([HOST, ENDPOINT])
}

/// Opens the flow, and makes its way known: by real packets between the same two, through the stack.
fn make_known(host: &Host, net: &Net) {
    let open = || sent(net).ethernet([WORLD, HOST]).hops(63);
    wait_until("the way", || {
        run(host
            .lab
            .container
            .command("ping")
            .args(["-c1", "-W1", "203.0.113.9"]));
        host.run(Hook::Leaves, Vec::from(open()));
        host.run(Hook::Port, Vec::from(sent(net))).verdict == REDIRECT
    });
}

#[test]
fn a_known_way_takes_the_packet_out_translated() {
    let (host, net) = host();
    let shown = udp(net.host(1234), net.world(53)).ethernet([WORLD, HOST]);
    // Whatever changes among the neighbours makes the way unknown again, at any moment.
    wait_until("a datagram by the known way", || {
        make_known(&host, &net);
        let before = host.reasons()[&Reason::Flow];
        let ran = host.run(Hook::Port, Vec::from(sent(&net)));
        if ran.verdict == GO_ON {
            return false;
        }
        assert_eq!(ran.verdict, REDIRECT);
        assert_eq!(ran.frame, Vec::from(shown.clone().hops(63)));
        assert_eq!(host.reasons()[&Reason::Flow], before + 1);
        true
    });
}

#[test]
fn whatever_is_not_plain_is_left_to_the_bridge_as_it_came() {
    let (host, net) = host();
    let leaves = |says: &str, frame: Frame| {
        let frame = Vec::from(frame);
        let ran = host.run(Hook::Port, frame.clone());
        assert!(
            ran.verdict == GO_ON && ran.frame == frame,
            "{says}: {ran:?}"
        );
    };
    leaves("a way that is not known", sent(&net));
    make_known(&host, &net);
    leaves("no hop left", sent(&net).hops(1));
    leaves("options", sent(&net).options(&[1, 1, 1, 1]));
    leaves(
        "to a neighbour as its gateway",
        sent(&net).ethernet([WORLD, ENDPOINT]),
    );
    leaves(
        "another flow's port",
        udp(net.endpoint(4321), net.world(53)).ethernet([HOST, ENDPOINT]),
    );
    leaves(
        "another's address",
        udp(net.neighbour(1234), net.world(53)).ethernet([HOST, ENDPOINT]),
    );
    leaves("too big for the uplink", sent(&net).payload(&[0; 2000]));
}
