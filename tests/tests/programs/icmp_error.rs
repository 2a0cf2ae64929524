//! ICMP errors: outside and inside are translated alike, and every checksum with them.

use std::net::SocketAddr;

use datapath_common::reason::Reason;
use datapath_tests::lab::run;

use crate::{
    frame::{ACK, ETHERNET, Frame, SYN, error, ping, tcp, udp},
    host::{Hook, Host, Net, nets},
};

/// Bytes of an IP header.
fn header(net: &Net) -> usize {
    if net.host.is_ipv4() { 20 } else { 40 }
}

/// Type and code, and what stands in the word behind them.
fn kinds(net: &Net) -> Vec<((u8, u8), u32)> {
    if net.host.is_ipv4() {
        let unreachable = (0..=15).map(|code| ((3, code), 0));
        let others = [
            ((3, 4), 1400),
            ((3, 4), 68),
            ((3, 4), 0),
            ((11, 0), 0),
            ((11, 1), 0),
            ((12, 0), 0x1400_0000),
        ];
        unreachable.chain(others).collect()
    } else {
        let unreachable = (0..=6).map(|code| ((1, code), 0));
        let others = [
            ((2, 0), 1280),
            ((2, 0), 0),
            ((3, 0), 0),
            ((3, 1), 0),
            ((4, 1), 6),
        ];
        unreachable.chain(others).collect()
    }
}

/// An error from a router outside about a packet that an endpoint sent.
#[test]
fn about_what_an_endpoint_sent() {
    let host = Host::new();
    for net in nets() {
        let (inside, shown, world) = (net.endpoint(7), net.host(7), net.world(9));
        for (make, there) in [
            (udp as fn(_, _) -> Frame, world),
            (ping, net.world(0)),
            (|from, to| tcp(from, to, SYN), world),
        ] {
            let (sent, seen) = (make(inside, there), make(shown, there));
            host.case("the first", Hook::Leaves, sent.clone())
                .becomes(Reason::Masquerade, seen.clone());
            for (kind, word) in kinds(&net) {
                for length in [8, 16, 18, 1000].map(|length| header(&net) + length) {
                    let says = format!("{kind:?} with {length} bytes");
                    let quote = |frame: &Frame| frame.quote(length);
                    host.case(
                        &says,
                        Hook::Arrives,
                        error(net.other(0), net.host(0), kind, &quote(&seen)).word(word),
                    )
                    .becomes(
                        Reason::IcmpError,
                        error(net.other(0), net.endpoint(0), kind, &quote(&sent)).word(word),
                    );
                }
            }
            // Nobody outside has these addresses.
            let (kind, loopback) = if net.host.is_ipv4() {
                ((3, 4), "127.0.0.1:0")
            } else {
                ((2, 0), "[::1]:0")
            };
            for (from, reason) in [
                (net.neighbour(0), Reason::ForgedSource),
                (loopback.parse().unwrap(), Reason::Martian),
            ] {
                let forged = error(from, net.host(0), kind, &seen.quote(1000)).word(1400);
                host.case("forged", Hook::Arrives, forged).is(reason);
            }
        }
    }
}

/// An error from an endpoint, or from the host itself, about a packet that came to a published port.
#[test]
fn about_what_came_to_a_published_port() {
    let host = Host::new();
    for net in nets() {
        let client = net.world(40000);
        for (asked, led) in [
            (udp(client, net.host(5300)), udp(client, net.endpoint(53))),
            (
                tcp(client, net.host(8080), SYN),
                tcp(client, net.endpoint(80), SYN),
            ),
        ] {
            host.case("the first", Hook::Arrives, asked.clone())
                .becomes(Reason::Publish, led.clone());
            for (kind, word) in kinds(&net) {
                let (inside, outside) = (led.quote(1000), asked.quote(1000));
                host.case("an endpoint's", Hook::Leaves, {
                    error(net.endpoint(0), net.world(0), kind, &inside).word(word)
                })
                .becomes(
                    Reason::IcmpError,
                    error(net.host(0), net.world(0), kind, &outside).word(word),
                );
                host.case("the host's", Hook::Leaves, {
                    error(net.host(0), net.world(0), kind, &inside).word(word)
                })
                .becomes(
                    Reason::IcmpError,
                    error(net.host(0), net.world(0), kind, &outside).word(word),
                );
            }
        }
    }
}

/// The quoted packet may have passed a router that took options off, put some on, or cut it.
#[test]
fn a_quoted_header_with_options() {
    let host = Host::new();
    let [net, _] = nets();
    let (inside, shown, world) = (net.endpoint(7), net.host(7), net.world(9));
    host.case("the first", Hook::Leaves, udp(inside, world))
        .becomes(Reason::Masquerade, udp(shown, world));
    for options in [vec![1; 4], vec![1; 40]] {
        let quote = |from| udp(from, world).options(&options).quote(100);
        host.case(
            &format!("{} bytes of options", options.len()),
            Hook::Arrives,
            error(net.other(0), net.host(0), (3, 1), &quote(shown)),
        )
        .becomes(
            Reason::IcmpError,
            error(net.other(0), net.endpoint(0), (3, 1), &quote(inside)),
        );
    }
}

/// What lies behind the packet in its frame is no part of the quotation, though a checksum could stand there.
#[test]
fn a_quotation_ends_with_its_packet() {
    let host = Host::new();
    for net in nets() {
        let (inside, shown, world) = (net.endpoint(7), net.host(7), net.world(9));
        host.case("the first", Hook::Leaves, tcp(inside, world, SYN))
            .becomes(Reason::Masquerade, tcp(shown, world, SYN));
        let unreachable = if net.host.is_ipv4() { (3, 1) } else { (1, 0) };
        let padded = |to, from: SocketAddr| {
            let quoted = tcp(from, world, SYN).quote(header(&net) + 8);
            let packet = error(net.other(0), to, unreachable, &quoted);
            [packet.bytes(), vec![0x55; 20]].concat()
        };
        host.case("padded", Hook::Arrives, padded(net.host(0), shown))
            .becomes(Reason::IcmpError, padded(net.endpoint(0), inside));
        let cut = |to| {
            let quoted = tcp(shown, world, SYN).quote(header(&net) + 7);
            let packet = error(net.other(0), to, unreachable, &quoted);
            [packet.bytes(), vec![0; 20]].concat()
        };
        host.case("too little quoted", Hook::Arrives, cut(net.host(0)))
            .is(Reason::NotOurs);
        host.case("too little quoted", Hook::Arrives, cut(net.endpoint(0)))
            .is(Reason::IcmpErrorWithoutFlow);
    }
}

/// One that is about no flow of ours may be about the host's own; to an endpoint it never goes.
#[test]
fn about_no_flow() {
    let host = Host::new();
    for net in nets() {
        let unreachable = if net.host.is_ipv4() { (3, 3) } else { (1, 4) };
        let quoted = udp(net.host(7), net.world(9)).quote(100);
        host.case("the host's", Hook::Arrives, {
            error(net.world(0), net.host(0), unreachable, &quoted)
        })
        .is(Reason::NotOurs);
        host.case("an endpoint's", Hook::Arrives, {
            error(net.world(0), net.endpoint(0), unreachable, &quoted)
        })
        .is(Reason::IcmpErrorWithoutFlow);
    }
}

/// A port that was withdrawn leads nowhere any more, for errors about its former flows neither.
#[test]
fn about_a_port_that_was_withdrawn() {
    let host = Host::new();
    for net in nets() {
        let (client, asked, led) = (net.world(40000), net.host(9090), net.endpoint(53));
        let to = net.endpoint.to_string();
        run(&mut host
            .datapath
            .command(&["publish", "9090:53/udp", "--to", &to]));
        host.case("the first", Hook::Arrives, udp(client, asked))
            .becomes(Reason::Publish, udp(client, led));
        host.case("the answer", Hook::Leaves, udp(led, client))
            .becomes(Reason::Flow, udp(asked, client));
        let unreachable = if net.host.is_ipv4() { (3, 3) } else { (1, 4) };
        let arrives = |to, from| {
            let quoted = udp(from, client).quote(100);
            error(net.other(0), to, unreachable, &quoted)
        };
        let leaves = |from, to| {
            let quoted = udp(client, to).quote(100);
            error(from, net.world(0), unreachable, &quoted)
        };
        let says = "while it is published";
        host.case(says, Hook::Arrives, arrives(net.host(0), asked))
            .becomes(Reason::IcmpError, arrives(net.endpoint(0), led));
        host.case(says, Hook::Leaves, leaves(net.endpoint(0), led))
            .becomes(Reason::IcmpError, leaves(net.host(0), asked));
        let port = if net.host.is_ipv4() {
            "0.0.0.0:9090/udp"
        } else {
            "[::]:9090/udp"
        };
        run(&mut host.datapath.command(&["unpublish", port]));
        let says = "once it is withdrawn";
        host.case(says, Hook::Arrives, arrives(net.host(0), asked))
            .is(Reason::NotOurs);
        host.case(says, Hook::Leaves, leaves(net.endpoint(0), led))
            .is(Reason::IcmpErrorWithoutFlow);
    }
}

/// RFC 5508, REQ-6 and RFC 5927: whoever guesses the ports may send errors, and the connection lives on.
#[test]
fn an_error_ends_nothing() {
    let host = Host::new();
    for net in nets() {
        let (client, asked, led) = (net.world(40000), net.host(8080), net.endpoint(80));
        host.case("SYN", Hook::Arrives, tcp(client, asked, SYN))
            .becomes(Reason::Publish, tcp(client, led, SYN));
        let unreachable = if net.host.is_ipv4() { (3, 2) } else { (1, 1) };
        for _ in 0..3 {
            host.case("the error", Hook::Leaves, {
                let quoted = tcp(client, led, SYN).quote(100);
                error(net.endpoint(0), net.world(0), unreachable, &quoted)
            })
            .becomes(Reason::IcmpError, {
                let quoted = tcp(client, asked, SYN).quote(100);
                error(net.host(0), net.world(0), unreachable, &quoted)
            });
        }
        host.case("SYN-ACK", Hook::Leaves, tcp(led, client, SYN | ACK))
            .becomes(Reason::Flow, tcp(asked, client, SYN | ACK));
    }
}

/// RFC 5508, REQ-3 and 3a: an error that was damaged is about nothing. Of every length, since the sum is made in
/// pieces.
#[test]
fn a_wrong_checksum_is_dropped() {
    let host = Host::new();
    for net in nets() {
        let (inside, shown, world) = (net.endpoint(7), net.host(7), net.world(9));
        host.case("the first", Hook::Leaves, udp(inside, world))
            .becomes(Reason::Masquerade, udp(shown, world));
        let unreachable = if net.host.is_ipv4() { (3, 1) } else { (1, 0) };
        let message = ETHERNET + header(&net);
        let least = 8 + header(&net) + 8;
        for length in [
            least,
            least + 1,
            511,
            512,
            513,
            514,
            515,
            1023,
            1025,
            2047,
            2048,
        ] {
            let payload: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let about = |to, from| {
                let quoted = udp(from, world).payload(&payload).quote(length - 8);
                error(net.other(0), to, unreachable, &quoted).bytes()
            };
            let whole = about(net.host(0), shown);
            assert_eq!(whole.len(), message + length);
            host.case(&format!("{length} bytes"), Hook::Arrives, whole.clone())
                .becomes(Reason::IcmpError, about(net.endpoint(0), inside));
            for place in [1, 2, 3, 4, 7, length - 1] {
                let mut damaged = whole.clone();
                damaged[message + place] ^= 0x10;
                let says = format!("{length} bytes, of which {place} is damaged");
                host.case(&says, Hook::Arrives, damaged)
                    .is(Reason::BadChecksum);
            }
        }
    }
}
