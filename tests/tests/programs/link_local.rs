//! Clients with a link-local address: an endpoint sees one of the host, and they see the port that they asked.

use std::net::SocketAddr;

use datapath_common::{
    family::{Addr6, Address as _, V6},
    nat64::PORTS,
    reason::Reason,
};
use datapath_tests::lab::wait_until;
use datapath_user::kernel::tables::Tables;

use crate::{
    case::GO_ON,
    frame::{ACK, ETHERNET, Frame, SYN, error, tcp, udp},
    host::{Hook, Host, Net, nets},
};

fn client(port: u16) -> SocketAddr {
    SocketAddr::from(([0xfe80, 0, 0, 0, 0, 0, 0, 9], port))
}

/// The host's own.
fn asked(port: u16) -> SocketAddr {
    SocketAddr::from(([0xfe80, 0, 0, 0, 0, 0, 0, 2], port))
}

/// A host that has such an address, and IPv6's net.
fn host() -> (Host, Net) {
    let host = Host::new();
    host.lab.add_addresses("eth0", &["fe80::2/64"]);
    let (tables, own) = (
        Tables::new(host.datapath.pins()),
        Addr6::from_ip(asked(0).ip()),
    );
    wait_until("the address is known", || {
        let known = tables
            .locals::<V6>()
            .and_then(|(all, _)| all.entries())
            .expect("the host's addresses");
        own.is_some_and(|own| known.contains_key(&own))
    });
    (host, nets()[1])
}

/// Sends a first packet, which is to become `led` from a port of the host's address. Says which.
fn open(host: &Host, net: &Net, asked: Frame, led: impl Fn(SocketAddr) -> Frame) -> SocketAddr {
    let ran = host.run(Hook::Arrives, asked.bytes());
    let place = ETHERNET + 40;
    let port = u16::from_be_bytes([ran.frame[place], ran.frame[place + 1]]);
    assert!((PORTS.first..=PORTS.last).contains(&port), "{port}");
    let shown = net.host(port);
    assert_eq!((ran.verdict, ran.frame), (GO_ON, led(shown).bytes()));
    shown
}

#[test]
fn there_and_back() {
    let (host, net) = host();
    let (inside, from, to) = (net.endpoint(80), client(40000), asked(8080));
    let led = |shown| tcp(shown, inside, SYN);
    let shown = open(&host, &net, tcp(from, to, SYN), led);
    host.case("SYN-ACK", Hook::Bridge, tcp(inside, shown, SYN | ACK))
        .redirects(Reason::Flow, tcp(to, from, SYN | ACK).hops(63));
    for length in [0, 1, 1_000] {
        let data = vec![0xa5; length];
        let frame = |from, to| tcp(from, to, ACK).payload(&data);
        host.case("data", Hook::Arrives, frame(from, to))
            .becomes(Reason::Flow, frame(shown, inside));
        host.case("data", Hook::Bridge, frame(inside, shown))
            .redirects(Reason::Flow, frame(to, from).hops(63));
    }
    let second = SocketAddr::from(([0xfe80, 0, 0, 0, 0, 0, 0, 10], 40000));
    let other = open(&host, &net, tcp(second, to, SYN), led);
    assert_ne!(other, shown, "two clients have one port");
}

#[test]
fn datagrams_and_what_is_said_of_them() {
    let (host, net) = host();
    let (inside, from, to) = (net.endpoint(53), client(40000), asked(5300));
    let shown = open(&host, &net, udp(from, to), |shown| udp(shown, inside));
    let (there, back) = (udp(shown, inside), udp(to, from));
    host.case("answered", Hook::Bridge, udp(inside, shown))
        .redirects(Reason::Flow, back.clone().hops(63));
    // Nobody listens: the endpoint says so, and the client hears it from the address that it asked.
    let unreachable = (1, 4);
    let said = error(net.endpoint(0), net.host(0), unreachable, &there.quote(48));
    let heard = error(asked(0), client(0), unreachable, &udp(from, to).quote(48));
    host.case("refused", Hook::Bridge, said)
        .redirects(Reason::IcmpError, heard.hops(63));
    // And the other way: the endpoint hears it from the address that it knows.
    let said = error(client(0), asked(0), unreachable, &back.quote(48));
    let heard = error(
        net.host(0),
        net.endpoint(0),
        unreachable,
        &udp(inside, shown).quote(48),
    );
    host.case("refused", Hook::Arrives, said)
        .becomes(Reason::IcmpError, heard);
}

/// A router may have no other address on a link than its link-local one, but an endpoint is on another.
#[test]
fn errors_of_routers_without_another_address() {
    let (host, net) = host();
    let (inside, server, shown) = (net.endpoint(1234), net.other(53), net.host(1234));
    host.case("out", Hook::Leaves, udp(inside, server))
        .becomes(Reason::Masquerade, udp(shown, server));
    let too_far = (3, 0);
    let said = error(
        client(0),
        net.host(0),
        too_far,
        &udp(shown, server).quote(48),
    );
    let heard = error(
        net.other(0),
        net.endpoint(0),
        too_far,
        &udp(inside, server).quote(48),
    );
    host.case("time exceeded", Hook::Arrives, said)
        .becomes(Reason::IcmpError, heard);
}

#[test]
fn no_other_way_leads_to_an_endpoint() {
    let (host, net) = host();
    for to in [net.endpoint(80), net.endpoint(81)] {
        host.case("its own address", Hook::Arrives, tcp(client(1), to, SYN))
            .is(Reason::Unpublished);
    }
    host.case("no port", Hook::Arrives, tcp(client(1), asked(22), SYN))
        .is(Reason::NotOurs);
    host.case("no SYN", Hook::Arrives, tcp(client(1), asked(8080), ACK))
        .is(Reason::NoFlow);
}
