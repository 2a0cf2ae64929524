//! The host's own flows where they meet those of endpoints: each gets its own answers.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
};

use datapath_common::reason::Reason;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};

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

/// The kernel gives the host's own processes any port that no socket holds, a published one among them. Where a datagram
/// goes out from there, the answer is the host's; who asks for the port is led to the endpoint as before.
#[test]
fn datagrams_from_a_published_port() {
    let host = Host::new();
    for net in nets() {
        let (own, server, client) = (net.host(5300), net.world(53), net.other(40000));
        host.case("before", Hook::Arrives, udp(server, own))
            .becomes(Reason::Publish, udp(server, net.endpoint(53)));
        let server = net.world(54);
        host.case("a question", Hook::Leaves, udp(own, server))
            .becomes(Reason::OwnFlow, udp(own, server));
        for _ in 0..2 {
            host.case("its answer", Hook::Arrives, udp(server, own))
                .becomes(Reason::Flow, udp(server, own));
            host.case("another", Hook::Leaves, udp(own, server))
                .becomes(Reason::Flow, udp(own, server));
        }
        host.case("a client's", Hook::Arrives, udp(client, own))
            .becomes(Reason::Publish, udp(client, net.endpoint(53)));
        // Whom the endpoint talks to already: then it is another port.
        let port = other_port(&host, &net, &udp(own, client), false);
        host.case("its answer", Hook::Arrives, udp(client, net.host(port)))
            .becomes(Reason::Flow, udp(client, own));
        host.case(
            "the endpoint's",
            Hook::Leaves,
            udp(net.endpoint(53), client),
        )
        .becomes(Reason::Flow, udp(own, client));
        let many = match net.host {
            IpAddr::V4(_) => "224.0.0.251:5353",
            IpAddr::V6(_) => "[ff02::fb]:5353",
        };
        host.case("to many", Hook::Leaves, udp(own, many.parse().unwrap()))
            .is(Reason::NotOurs);
    }
}

/// A connection of the host's from a published port: what belongs to it is told from what belongs to nothing.
#[test]
fn a_connection_from_a_published_port() {
    let host = Host::new();
    for net in nets() {
        let (own, server) = (net.host(8080), net.world(8000));
        let listener = host.lab.lan.enter(|| TcpListener::bind(server).unwrap());
        let stray = |from| tcp(from, own, ACK);
        host.case("before", Hook::Arrives, stray(server))
            .is(Reason::NoFlow);
        let family = if own.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let socket = host.lab.host.enter(|| {
            let socket = socket(family, SockType::Stream, SockFlag::empty(), None).unwrap();
            bind(socket.as_raw_fd(), &SockaddrStorage::from(own)).unwrap();
            TcpStream::from(socket)
        });
        connect(socket.as_raw_fd(), &SockaddrStorage::from(server)).unwrap();
        let (mut accepted, from) = listener.accept().unwrap();
        assert_eq!(from, own);
        accepted.write_all(b"word").unwrap();
        let mut word = [0; 4];
        (&socket).read_exact(&mut word).unwrap();
        assert_eq!(&word, b"word");
        host.case("of the connection", Hook::Arrives, stray(server))
            .is(Reason::NotOurs);
        host.case("of no connection", Hook::Arrives, stray(net.world(8001)))
            .is(Reason::NoFlow);
        host.case("asking", Hook::Arrives, tcp(net.other(1), own, SYN))
            .becomes(Reason::Publish, tcp(net.other(1), net.endpoint(80), SYN));
        // One that only listens has no say.
        drop((socket, accepted));
        let held = host.lab.host.enter(|| TcpListener::bind(own));
        host.case("of no connection", Hook::Arrives, stray(net.other(2)))
            .is(Reason::NoFlow);
        drop(held);
    }
}
