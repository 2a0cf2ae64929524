//! The host's own flows where they meet those of endpoints: each gets its own answers.

use datapath_common::reason::Reason;

use crate::{
    case::GO_ON,
    frame::{ACK, ETHERNET, Frame, SYN, ping, pong, tcp, udp},
    host::{Hook, Host, Net, nets},
};

/// The source port of a frame, or the identifier of an echo.
fn shown(net: &Net, frame: &[u8], echo: bool) -> u16 {
    let place = ETHERNET + if net.host.is_ipv4() { 20 } else { 40 } + if echo { 4 } else { 0 };
    u16::from_be_bytes([frame[place], frame[place + 1]])
}

/// The port that the host's first packet takes, and that it is none that anybody has.
fn other_port(host: &Host, net: &Net, frame: &Frame, echo: bool) -> u16 {
    let ran = host.run(Hook::Leaves, frame.bytes());
    assert_eq!(ran.verdict, GO_ON);
    let port = shown(net, &ran.frame, echo);
    assert!((32_768..=60_999).contains(&port), "{port}");
    port
}

#[test]
fn a_connection_from_a_port_that_an_endpoint_shows() {
    let host = Host::new();
    for net in nets() {
        let (inside, own, server) = (net.endpoint(1234), net.host(1234), net.world(443));
        host.case("before", Hook::Leaves, tcp(own, server, SYN))
            .is(Reason::NotOurs);
        host.case("the endpoint's", Hook::Leaves, tcp(inside, server, SYN))
            .becomes(Reason::Masquerade, tcp(own, server, SYN));
        let port = other_port(&host, &net, &tcp(own, server, SYN), false);
        let other = net.host(port);
        host.case("again", Hook::Leaves, tcp(own, server, SYN))
            .becomes(Reason::Flow, tcp(other, server, SYN));
        host.case("its answer", Hook::Arrives, tcp(server, other, SYN | ACK))
            .becomes(Reason::Flow, tcp(server, own, SYN | ACK));
        host.case(
            "the endpoint's answer",
            Hook::Arrives,
            tcp(server, own, SYN | ACK),
        )
        .becomes(Reason::Flow, tcp(server, inside, SYN | ACK));
        host.case("what follows", Hook::Leaves, tcp(own, server, ACK))
            .becomes(Reason::Flow, tcp(other, server, ACK));
        host.case("the endpoint's", Hook::Leaves, tcp(inside, server, ACK))
            .becomes(Reason::Flow, tcp(own, server, ACK));
        // To somebody else there is nothing in the way, and so for what began before.
        for flags in [SYN, ACK] {
            host.case("to another", Hook::Leaves, tcp(own, net.other(443), flags))
                .is(Reason::NotOurs);
        }
    }
}

#[test]
fn datagrams_and_echo_requests() {
    let host = Host::new();
    for net in nets() {
        let (inside, own, server) = (net.endpoint(1234), net.host(1234), net.world(53));
        host.case("the endpoint's", Hook::Leaves, udp(inside, server))
            .becomes(Reason::Masquerade, udp(own, server));
        let other = net.host(other_port(&host, &net, &udp(own, server), false));
        host.case("its answer", Hook::Arrives, udp(server, other))
            .becomes(Reason::Flow, udp(server, own));
        host.case("the endpoint's answer", Hook::Arrives, udp(server, own))
            .becomes(Reason::Flow, udp(server, inside));

        let server = net.world(0);
        host.case("the endpoint's", Hook::Leaves, ping(inside, server))
            .becomes(Reason::Masquerade, ping(own, server));
        let other = net.host(other_port(&host, &net, &ping(own, server), true));
        host.case("its reply", Hook::Arrives, pong(server, other))
            .becomes(Reason::Flow, pong(server, own));
        host.case("the endpoint's reply", Hook::Arrives, pong(server, own))
            .becomes(Reason::Flow, pong(server, inside));
    }
}

/// A port that is somebody's mapping is not taken, though the destination would be free.
#[test]
fn a_port_of_a_mapping_is_left_alone() {
    let host = Host::with(
        "forwarding = \"kernel\"",
        "[nat]\nports = \"50000-50001\"\n",
    );
    for net in nets() {
        let (inside, own, server) = (net.endpoint(1234), net.host(1234), net.world(53));
        let mapped = udp(net.endpoint(50_000), net.other(1));
        host.case("a mapping", Hook::Leaves, mapped)
            .becomes(Reason::Masquerade, udp(net.host(50_000), net.other(1)));
        host.case("the endpoint's", Hook::Leaves, udp(inside, server))
            .becomes(Reason::Masquerade, udp(own, server));
        host.case("the host's", Hook::Leaves, udp(own, server))
            .becomes(Reason::OwnFlow, udp(net.host(50_001), server));
    }
}
