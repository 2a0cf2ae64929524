//! Hairpin past the bridge: packets of known flows, from their endpoint's port straight into the other endpoint. The
//! endpoint asks for its own port here, so that both ends, and both ways, are at one port.

use datapath_common::reason::Reason;

use crate::{
    case::{GO_ON, REDIRECT},
    driver::{self, CLIENT, ENDPOINT, know_endpoint, led, without_checksum},
    fast::keeps_its_way,
    frame::{ACK, FIN, Frame, HOST, RST, SENDER, SYN, tcp, udp},
    host::{Hook, Host, Net, nets},
};

/// A frame as the endpoint sends it to its gateway.
fn sent(frame: Frame) -> Frame {
    frame.ethernet([HOST, ENDPOINT])
}

/// What the endpoint asks of its own port, and what it gets to see of that.
fn asks(net: &Net) -> [Frame; 2] {
    [
        sent(udp(net.endpoint(CLIENT), net.host(5300))),
        led(udp(net.host(CLIENT), net.endpoint(53))),
    ]
}

/// The answer, likewise.
fn answers(net: &Net) -> [Frame; 2] {
    [
        sent(udp(net.endpoint(53), net.host(CLIENT))),
        led(udp(net.host(5300), net.endpoint(CLIENT))),
    ]
}

/// Opens the flow through the bridge, and has it answered there.
fn open(host: &Host, net: &Net) {
    for ([frame, _], reason) in [(asks(net), Reason::Publish), (answers(net), Reason::Flow)] {
        let counted = host.reasons()[&reason];
        host.run(Hook::Bridge, frame.into());
        assert_eq!(host.reasons()[&reason], counted + 1, "{reason:?}");
    }
}

/// Every packet twice: the whole body has the first, and the fast path the second, of other lengths.
#[test]
fn both_ways_of_a_known_flow_go_straight_in() {
    let host = driver::host();
    for net in nets() {
        open(&host, &net);
        for (way, [frame, expected]) in [("asks", asks(&net)), ("answers", answers(&net))] {
            for length in [0, 1, 2, 3, 18, 63, 64, 1000, 1401] {
                let payload: Vec<u8> = (0..length).map(|byte| (byte * 7) as u8).collect();
                for time in ["once", "again"] {
                    let says = format!("{way} {time}, {length} bytes");
                    host.case(&says, Hook::Port, frame.clone().payload(&payload))
                        .redirects(Reason::Flow, expected.clone().payload(&payload));
                }
            }
        }
    }
    let [frame, expected] = asks(&nets()[0]);
    for time in ["once", "again"] {
        host.case(time, Hook::Port, without_checksum(frame.clone()))
            .redirects(Reason::Flow, without_checksum(expected.clone()));
    }
}

#[test]
fn segments_from_the_end_of_the_handshake_to_that_of_the_flow() {
    let host = driver::host();
    for net in nets() {
        let (client, shown) = (net.endpoint(CLIENT), net.host(CLIENT));
        let (server, inside) = (net.host(8080), net.endpoint(80));
        for (from, to, flags) in [
            (client, server, SYN),
            (inside, shown, SYN | ACK),
            (client, server, ACK),
        ] {
            let frame = sent(tcp(from, to, flags));
            host.case("the handshake", Hook::Port, frame.clone())
                .goes_on();
            assert_eq!(host.run(Hook::Bridge, frame.into()).verdict, REDIRECT);
        }
        for (says, flags) in [("data", ACK), ("more", ACK), ("the last", FIN | ACK)] {
            let asks = |from, to| tcp(from, to, flags).payload(says.as_bytes());
            host.case(says, Hook::Port, sent(asks(client, server)))
                .redirects(Reason::Flow, led(asks(shown, inside)));
            host.case(says, Hook::Port, sent(asks(inside, shown)))
                .redirects(Reason::Flow, led(asks(server, client)));
        }
        let reset = |from, to| tcp(from, to, RST).numbers(2000, 0);
        host.case("a reset", Hook::Port, sent(reset(client, server)))
            .redirects(Reason::Flow, led(reset(shown, inside)));
    }
}

#[test]
fn whatever_is_not_plain_is_left_to_the_bridge_as_it_came() {
    let host = driver::host();
    for net in nets() {
        let [first, _] = asks(&net);
        let goes_on = |says: &str, frame: Vec<u8>| host.case(says, Hook::Port, frame).goes_on();
        goes_on("of no flow", first.bytes());
        host.run(Hook::Bridge, first.bytes());
        goes_on("of a flow without an answer", first.bytes());
        open_answer(&host, &net);
        for known in [false, true] {
            if known {
                assert_eq!(host.run(Hook::Port, first.bytes()).verdict, REDIRECT);
            }
            goes_on("no hop left", first.clone().hops(1).bytes());
            goes_on("too big", first.clone().payload(&[0; 1600]).bytes());
            let elsewhere = first.clone().ethernet([SENDER, ENDPOINT]);
            goes_on("not for its gateway", elsewhere.bytes());
            let forged = sent(udp(net.neighbour(CLIENT), net.host(5300)));
            goes_on("another's address", forged.bytes());
            for fragment in first.clone().payload(&[1; 64]).fragments(32) {
                goes_on("a fragment", fragment);
            }
            let mut tagged = first.bytes();
            tagged.splice(12..12, [0x81, 0, 0, 7]);
            goes_on("a VLAN's frame", tagged);
        }
    }
    let [first, _] = asks(&nets()[0]);
    host.case("options", Hook::Port, first.options(&[1; 4]))
        .goes_on();
}

fn open_answer(host: &Host, net: &Net) {
    let [answer, _] = answers(net);
    assert_eq!(host.run(Hook::Bridge, answer.into()).verdict, REDIRECT);
}

/// The host's own forward chains have their say: then its bridge has every packet.
#[test]
fn with_the_stacks_way_the_bridge_has_them_all() {
    let host = Host::new();
    know_endpoint(&host);
    for net in nets() {
        open(&host, &net);
        for [frame, _] in [asks(&net), answers(&net)] {
            host.case("of a known flow", Hook::Port, frame).goes_on();
        }
    }
}

#[test]
fn what_the_flow_keeps_ends_with_the_generation() {
    let host = driver::host();
    let net = nets()[0];
    open(&host, &net);
    let [frame, _] = asks(&net);
    keeps_its_way(&host, || {
        host.run(Hook::Port, frame.bytes()).verdict == REDIRECT
    });
}

/// A port that is withdrawn is closed to those who use it, at once.
#[test]
fn a_withdrawn_port_ends_the_flow() {
    let host = driver::host();
    let cli = |words: &[&str]| assert!(host.datapath.cli(words).status.success(), "{words:?}");
    cli(&["publish", "7000:70/udp", "--to", "172.17.0.2"]);
    let net = nets()[0];
    let asks = sent(udp(net.endpoint(CLIENT), net.host(7000))).bytes();
    let answers = sent(udp(net.endpoint(70), net.host(CLIENT))).bytes();
    for frame in [&asks, &answers] {
        host.run(Hook::Bridge, frame.clone());
    }
    for frame in [&asks, &answers, &asks, &answers] {
        assert_eq!(host.run(Hook::Port, frame.clone()).verdict, REDIRECT);
    }
    cli(&["unpublish", "7000/udp"]);
    for frame in [&asks, &answers] {
        assert_eq!(host.run(Hook::Port, frame.clone()).verdict, GO_ON);
        host.case("of a port that is gone", Hook::Bridge, frame.clone())
            .is(Reason::ToHost);
    }
}
