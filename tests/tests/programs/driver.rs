//! The program at the driver's level: datagrams of known flows straight into their endpoint, early drops, and everything
//! else to the stack as it came. (That it never disagrees with the stack's program is checked with every frame of the
//! other tests: `Hook::Arrives`.)

use std::net::SocketAddr;

use datapath_common::reason::Reason;
use datapath_tests::lab::{run, wait_until};

use crate::{
    case::XDP_REDIRECT,
    frame::{ACK, FIN, Frame, HOST, RST, SYN, ping, pong, tcp, udp},
    host::{Hook, Host, Net, nets},
};

/// The endpoint's Ethernet address.
pub(crate) const ENDPOINT: [u8; 6] = [0x02, 0, 0, 0, 0, 0x17];
/// An answered flow's client.
pub(crate) const CLIENT: u16 = 40000;

/// A host that sends past its stack in both families, and knows where the endpoint is.
pub(crate) fn host() -> Host {
    let host = Host::with("forwarding = \"fast\"", "");
    know_endpoint(&host);
    for net in nets() {
        open(&host, &net, CLIENT);
    }
    wait_until("the endpoint's port to take frames", || {
        nets().iter().all(|net| {
            let frame = Vec::from(asked(net));
            host.run(Hook::Driver, frame).verdict == XDP_REDIRECT
        })
    });
    host
}

/// Makes known where the endpoint is, in both families.
pub(crate) fn know_endpoint(host: &Host) {
    let lab = &host.lab;
    lab.container.ip("link set eth0 address 02:00:00:00:00:17");
    for (family, address, gateway) in [
        ("-4", "172.17.0.2", "172.17.0.1"),
        ("-6", "fd00:17::2", "fd00:17::1"),
    ] {
        wait_until("the endpoint's place", || {
            let asks = ["-c1", "-W1", family];
            drop(
                lab.container
                    .command("ping")
                    .args(asks)
                    .arg(gateway)
                    .output(),
            );
            run(lab.host.command("ping").args(asks).arg(address));
            let map = host
                .datapath
                .maps()
                .join(format!("ENDPOINTS{}", &family[1..]));
            let shown = run(lab
                .host
                .command("bpftool")
                .args(["-j", "map", "dump", "pinned"])
                .arg(map));
            String::from_utf8_lossy(&shown.stdout).contains("0x17")
        });
    }
}

/// Opens a flow to a published port, and answers it.
pub(crate) fn open(host: &Host, net: &Net, port: u16) {
    for (hook, frame) in [
        (Hook::Stack, udp(net.world(port), net.host(5300))),
        (Hook::Leaves, udp(net.endpoint(53), net.world(port))),
    ] {
        host.run(hook, Vec::from(frame));
    }
}

pub(crate) fn asked(net: &Net) -> Frame {
    udp(net.world(CLIENT), net.host(5300))
}

/// A frame as its endpoint gets it: from its gateway, one hop later.
pub(crate) fn led(frame: Frame) -> Frame {
    frame.ethernet([ENDPOINT, HOST]).hops(63)
}

/// A datagram over IPv4 without a checksum.
pub(crate) fn without_checksum(datagram: Frame) -> Vec<u8> {
    let mut bytes = datagram.bytes();
    bytes[40..42].fill(0);
    bytes
}

#[test]
fn datagrams_of_known_flows_go_straight_in() {
    let host = host();
    for net in nets() {
        let to = || led(udp(net.world(CLIENT), net.endpoint(53)));
        host.case("a datagram", Hook::Driver, asked(&net))
            .redirects(Reason::Flow, to());
        for length in 0..=64 {
            let payload: Vec<u8> = (0..length).map(|byte| (byte * 7) as u8).collect();
            let frame = asked(&net).payload(&payload);
            host.case(&format!("{length} bytes"), Hook::Driver, frame)
                .redirects(Reason::Flow, to().payload(&payload));
        }
        let (inside, shown, server) = (net.endpoint(1234), net.host(1234), net.world(53));
        host.run(Hook::Leaves, Vec::from(udp(inside, server)));
        host.run(Hook::Stack, Vec::from(udp(server, shown)));
        host.case(
            "an answer to a masqueraded flow",
            Hook::Driver,
            udp(server, shown),
        )
        .redirects(Reason::Flow, led(udp(server, inside)));
        let (inside, shown, server) = (net.endpoint(77), net.host(77), net.world(0));
        host.run(Hook::Leaves, Vec::from(ping(inside, server)));
        host.run(Hook::Stack, Vec::from(pong(server, shown)));
        host.case("an echo reply", Hook::Driver, pong(server, shown))
            .redirects(Reason::Flow, led(pong(server, inside)));
    }
}

/// Over IPv4 a datagram may do without a checksum, and still must afterwards.
#[test]
fn no_checksum_stays_none() {
    let host = host();
    let net = nets()[0];
    let to = led(udp(net.world(CLIENT), net.endpoint(53)));
    host.case(
        "without a checksum",
        Hook::Driver,
        without_checksum(asked(&net)),
    )
    .redirects(Reason::Flow, without_checksum(to));
}

/// A neighbour on the same machine leaves the checksum to a card that there is not (`CHECKSUM_PARTIAL`): the field has
/// the pseudo-header's sum, and only the socket buffer tells.
#[test]
fn an_unfinished_checksum_is_the_stacks() {
    let host = host();
    for net in nets() {
        for length in [0, 1, 7, 500] {
            let frame = asked(&net).payload(&vec![0x5a; length]);
            let mut bytes = frame.bytes();
            let at = bytes.len() - length - 2;
            let sum = pseudo_header(net.world, net.host, length as u16 + 8);
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
            host.case(&format!("{length} bytes"), Hook::Driver, bytes)
                .goes_on();
        }
    }
}

fn pseudo_header(src: std::net::IpAddr, dst: std::net::IpAddr, length: u16) -> u16 {
    let bytes = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut sum = 17 + u32::from(length);
    for pair in [bytes(src), bytes(dst)].concat().chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn whatever_is_not_plain_is_the_stacks_as_it_came() {
    let host = host();
    for net in nets() {
        let goes_on = |says: &str, frame: Vec<u8>| host.case(says, Hook::Driver, frame).goes_on();
        goes_on("no hop left", asked(&net).hops(1).bytes());
        goes_on(
            "too big for the endpoint",
            asked(&net).payload(&[0; 1600]).bytes(),
        );
        goes_on(
            "another machine's frame",
            asked(&net).ethernet([ENDPOINT, HOST]).bytes(),
        );
        goes_on(
            "the first of a flow",
            udp(net.world(41000), net.host(5300)).bytes(),
        );
        goes_on(
            "a port of the host's",
            udp(net.world(41000), net.host(53)).bytes(),
        );
        let mut tagged = asked(&net).bytes();
        tagged.splice(12..12, [0x81, 0, 0, 7]);
        goes_on("a VLAN's frame", tagged);
        for fragment in asked(&net).payload(&[1; 64]).fragments(32) {
            goes_on("a fragment", fragment);
        }
        for cut in [20, 30, 34] {
            let mut bytes = asked(&net).bytes();
            bytes.truncate(14 + cut);
            goes_on("cut off", bytes);
        }
    }
    let options = asked(&nets()[0]).options(&[1, 1, 1, 1]).bytes();
    host.case("options", Hook::Driver, options).goes_on();
}

/// Segments are joined to trains above the driver's level: that is where they are translated.
#[test]
fn segments_are_the_stacks() {
    let host = host();
    for net in nets() {
        let (client, shown, inside) = (net.world(42000), net.host(8080), net.endpoint(80));
        for (hook, frame) in [
            (Hook::Driver, tcp(client, shown, SYN)),
            (Hook::Stack, tcp(client, shown, SYN)),
            (Hook::Leaves, tcp(inside, client, SYN | ACK)),
            (Hook::Stack, tcp(client, shown, ACK)),
        ] {
            host.run(hook, Vec::from(frame));
        }
        for flags in [ACK, FIN | ACK, RST] {
            host.case(
                "a segment of a flow",
                Hook::Driver,
                tcp(client, shown, flags),
            )
            .goes_on();
        }
    }
}

#[test]
fn what_policy_refuses_ends_here() {
    let host = host();
    for net in nets() {
        let client = net.world(43000);
        let ends = |says: &str, frame: Frame, reason| {
            host.case(says, Hook::Driver, frame).is(reason);
        };
        let past = |to: SocketAddr| tcp(client, to, SYN);
        ends(
            "past the ports",
            past(net.endpoint(80)),
            Reason::Unpublished,
        );
        ends(
            "a stray ACK",
            tcp(client, net.host(8080), ACK),
            Reason::NoFlow,
        );
        ends(
            "a stray reset",
            tcp(client, net.host(8080), RST),
            Reason::NoFlow,
        );
        ends("LAND", udp(net.host(5300), net.host(5300)), Reason::Land);
        ends(
            "an endpoint's address from outside",
            udp(net.neighbour(1), net.host(5300)),
            Reason::ForgedSource,
        );
    }
}

#[test]
fn with_the_stacks_way_only_refusals_are_left() {
    let host = Host::new();
    for net in nets() {
        open(&host, &net, CLIENT);
        host.case("a datagram of a flow", Hook::Driver, asked(&net))
            .goes_on();
        let stray = tcp(net.world(43000), net.host(8080), ACK);
        host.case("a stray ACK", Hook::Driver, stray)
            .is(Reason::NoFlow);
    }
}
