//! Masquerade: what endpoints send outside, and what is answered.

use datapath_common::reason::Reason;

use crate::{
    frame::{ACK, SYN, ping, pong, tcp, udp},
    host::{Hook, Host, nets},
};

#[test]
fn a_datagram_and_its_answer() {
    let host = Host::new();
    for net in nets() {
        let (endpoint, server) = (net.endpoint(1234), net.world(53));
        host.case("the first", Hook::Leaves, udp(endpoint, server))
            .becomes(Reason::Masquerade, udp(net.host(1234), server));
        host.case("the second", Hook::Leaves, udp(endpoint, server))
            .becomes(Reason::Flow, udp(net.host(1234), server));
        host.case("the answer", Hook::Arrives, udp(server, net.host(1234)))
            .becomes(Reason::Flow, udp(server, endpoint));
    }
}

#[test]
fn a_connection() {
    let host = Host::new();
    for net in nets() {
        let (endpoint, shown, server) = (net.endpoint(1234), net.host(1234), net.world(80));
        host.case("SYN", Hook::Leaves, tcp(endpoint, server, SYN))
            .becomes(Reason::Masquerade, tcp(shown, server, SYN));
        host.case("SYN-ACK", Hook::Arrives, tcp(server, shown, SYN | ACK))
            .becomes(Reason::Flow, tcp(server, endpoint, SYN | ACK));
        host.case("ACK", Hook::Leaves, tcp(endpoint, server, ACK))
            .becomes(Reason::Flow, tcp(shown, server, ACK));
    }
}

#[test]
fn an_echo_request_and_its_reply() {
    let host = Host::new();
    for net in nets() {
        let (endpoint, shown, server) = (net.endpoint(77), net.host(77), net.world(0));
        host.case("request", Hook::Leaves, ping(endpoint, server))
            .becomes(Reason::Masquerade, ping(shown, server));
        host.case("reply", Hook::Arrives, pong(server, shown))
            .becomes(Reason::Flow, pong(server, endpoint));
    }
}
