//! IPv6 clients of IPv4 endpoints: every field of both headers, and every checksum.

use std::net::SocketAddr;

use datapath_common::{nat64::PORTS, reason::Reason};

use crate::{
    case::REDIRECT,
    frame::{ACK, FIN, Frame, SYN, error, ping, tcp, udp},
    host::{Hook, Host},
};

/// Ports of IPv6 that lead to IPv4 endpoints.
const ACROSS: &str = r#"
[[publish]]
listen = "[::]:8064"
to = "172.17.0.2:80"
protocol = "tcp"
[[publish]]
listen = "[::]:5364"
to = "172.17.0.2:53"
protocol = "udp"
[[publish]]
listen = "[::]:8065"
to = "192.0.2.80:80"
protocol = "tcp"
"#;

const CLIENT: &str = "[2001:db8::9]:40000";
const WEB: &str = "[2001:db8::2]:8064";
const DNS: &str = "[2001:db8::2]:5364";

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn endpoint(port: u16) -> SocketAddr {
    SocketAddr::from(([172, 17, 0, 2], port))
}

fn gateway(port: u16) -> SocketAddr {
    SocketAddr::from(([172, 17, 0, 1], port))
}

fn host() -> Host {
    Host::with("forwarding = \"kernel\"", ACROSS)
}

/// Identification and source port of an IPv4 packet: what the program was free to choose.
fn chosen(frame: &[u8]) -> (u16, u16) {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    (word(18), word(34))
}

/// Sends a first packet, which is to become `led` from a port of the bridge's address. Says which.
fn open(host: &Host, asked: Frame, led: impl Fn(SocketAddr) -> Frame) -> SocketAddr {
    let ran = host.run(Hook::Arrives, asked.bytes());
    let (id, port) = chosen(&ran.frame);
    assert_eq!(ran.verdict, REDIRECT, "{ran:?}");
    assert!((PORTS.first..=PORTS.last).contains(&port), "{port}");
    assert_eq!(ran.frame, led(gateway(port)).id(id).hops(63).bytes());
    gateway(port)
}

#[test]
fn a_connection_there_and_back() {
    let host = host();
    let (client, asked, led) = (at(CLIENT), at(WEB), endpoint(80));
    let seen = open(&host, tcp(client, asked, SYN), |from| tcp(from, led, SYN));
    let inward = |says: &str, frame: &dyn Fn(SocketAddr, SocketAddr) -> Frame| {
        let ran = host.run(Hook::Arrives, frame(client, asked).bytes());
        let id = chosen(&ran.frame).0;
        let expected = frame(seen, led).id(id).hops(63);
        assert_eq!(
            (ran.verdict, ran.frame),
            (REDIRECT, expected.bytes()),
            "{says}"
        );
    };
    let outward = |says: &str, frame: &dyn Fn(SocketAddr, SocketAddr) -> Frame| {
        host.case(says, Hook::Bridge, frame(led, seen))
            .redirects(Reason::Nat64, frame(asked, client).hops(63));
    };
    outward("SYN-ACK", &|from, to| tcp(from, to, SYN | ACK));
    inward("ACK", &|from, to| tcp(from, to, ACK));
    for length in [0, 1, 2, 1_000, 1_001] {
        let data = vec![0xa5; length];
        inward("data", &|from, to| tcp(from, to, ACK).payload(&data));
        outward("data", &|from, to| tcp(from, to, ACK).payload(&data));
    }
    inward("FIN", &|from, to| tcp(from, to, FIN | ACK));
    outward("FIN", &|from, to| tcp(from, to, FIN | ACK));
}

#[test]
fn datagrams_there_and_back() {
    let host = host();
    let (client, asked, led) = (at(CLIENT), at(DNS), endpoint(53));
    let seen = open(&host, udp(client, asked), |from| udp(from, led));
    // Every sum that a checksum can come to, the one that is written as its complement among them.
    for number in 0..=u16::MAX {
        if number % 251 > 2 && number != 0x8000 {
            continue;
        }
        let payload = number.to_be_bytes();
        let answer = |from, to| udp(from, to).payload(&payload);
        host.case("answer", Hook::Bridge, answer(led, seen))
            .redirects(Reason::Nat64, answer(asked, client).hops(63));
    }
}

/// Whoever comes gets a port of its own, and each answer goes to whom it is for.
#[test]
fn every_client_has_its_own_port() {
    let host = host();
    let led = endpoint(53);
    let clients: Vec<_> = (1..=200)
        .map(|number| at(&format!("[2001:db8::9]:{}", 40_000 + number)))
        .collect();
    let seen: Vec<_> = clients
        .iter()
        .map(|client| open(&host, udp(*client, at(DNS)), |from| udp(from, led)))
        .collect();
    let mut ports: Vec<_> = seen.iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), clients.len());
    for (client, seen) in clients.iter().zip(seen) {
        host.case("answer", Hook::Bridge, udp(led, seen))
            .redirects(Reason::Nat64, udp(at(DNS), *client).hops(63));
    }
}

#[test]
fn what_may_not_open_a_flow_opens_none() {
    let host = host();
    let (client, asked) = (at(CLIENT), at(WEB));
    host.case("no SYN", Hook::Arrives, tcp(client, asked, ACK))
        .is(Reason::NoFlow);
    host.case("a mapped source", Hook::Arrives, {
        tcp(at("[::ffff:192.0.2.9]:40000"), asked, SYN)
    })
    .is(Reason::Martian);
    host.case("behind no bridge", Hook::Arrives, {
        tcp(client, at("[2001:db8::2]:8065"), SYN)
    })
    .is(Reason::CrossFamily);
    host.case(
        "no hop left",
        Hook::Arrives,
        tcp(client, asked, SYN).hops(1),
    )
    .ends(Reason::HopLimit);
    // The endpoint answers to nobody.
    host.case("an answer of no flow", Hook::Bridge, {
        tcp(endpoint(80), gateway(2_000), SYN | ACK)
    })
    .is(Reason::ToHost);
    host.case(
        "an echo",
        Hook::Arrives,
        ping(client, at("[2001:db8::2]:0")),
    )
    .is(Reason::NotOurs);
}

#[test]
fn what_is_not_plain_is_dropped_and_counted() {
    let host = host();
    let (client, asked, led) = (at(CLIENT), at(DNS), endpoint(53));
    let seen = open(&host, udp(client, asked), |from| udp(from, led));
    let large = |from, to| udp(from, to).payload(&[7; 2_000]);
    host.case("a first fragment", Hook::Arrives, {
        large(client, asked).fragments(1_000).remove(0)
    })
    .is(Reason::Nat64NotPlain);
    host.case("a first fragment of an answer", Hook::Bridge, {
        large(led, seen).fragments(1_000).remove(0)
    })
    .is(Reason::Nat64NotPlain);
    host.case("options", Hook::Bridge, udp(led, seen).options(&[1; 4]))
        .is(Reason::Nat64NotPlain);
    let mut unsummed = udp(client, asked).bytes();
    unsummed[14 + 40 + 6..][..2].fill(0);
    host.case("no checksum, which IPv6 asks for", Hook::Arrives, unsummed)
        .is(Reason::Nat64NotPlain);
    host.case("too big for the uplink", Hook::Bridge, {
        udp(led, seen).payload(&[7; 1_472])
    })
    .is(Reason::Nat64TooBig);
}

/// A SYN announces no more than fits the client's way, wherever the option stands.
#[test]
fn the_size_of_segments_is_lowered() {
    let host = host();
    let led = endpoint(80);
    for (number, (options, lowered)) in [
        (
            vec![2, 4, 0x23, 0x28, 1, 1, 1, 1],
            vec![2, 4, 0x05, 0xa0, 1, 1, 1, 1],
        ),
        (
            vec![1, 2, 4, 0x23, 0x28, 1, 1, 1],
            vec![1, 2, 4, 0x05, 0xa0, 1, 1, 1],
        ),
        (
            vec![3, 3, 7, 2, 4, 0x23, 0x28, 0],
            vec![3, 3, 7, 2, 4, 0x05, 0xa0, 0],
        ),
        (vec![2, 4, 0x02, 0x18], vec![2, 4, 0x02, 0x18]),
        (vec![2, 3, 0x23, 0x28], vec![2, 3, 0x23, 0x28]),
        (vec![3, 0, 2, 4], vec![3, 0, 2, 4]),
        (vec![0, 2, 4, 0x23], vec![0, 2, 4, 0x23]),
    ]
    .into_iter()
    .enumerate()
    {
        let client = at(&format!("[2001:db8::9]:{}", 41_000 + number));
        let syn = tcp(client, at(WEB), SYN).tcp_options(&options);
        let seen = open(&host, syn, |from| tcp(from, led, SYN).tcp_options(&lowered));
        host.case("SYN-ACK", Hook::Bridge, {
            tcp(led, seen, SYN | ACK).tcp_options(&options)
        })
        .redirects(Reason::Nat64, {
            tcp(at(WEB), client, SYN | ACK)
                .tcp_options(&lowered)
                .hops(63)
        });
    }
}

/// An error from outside about an answer, from the client itself or a router on the way: the endpoint is told by its
/// bridge.
#[test]
fn errors_about_answers() {
    let host = host();
    let (client, router, asked) = (at(CLIENT), at("[2001:db8:7::7]:0"), at(DNS));
    let seen = open(&host, udp(client, asked), |from| udp(from, endpoint(53)));
    let (said, shown) = (udp(endpoint(53), seen), udp(asked, client));
    for (v6, v4) in [
        ((1, 0, 0), Some((3, 1, 0))),
        ((1, 1, 0), Some((3, 10, 0))),
        ((1, 4, 0), Some((3, 3, 0))),
        ((1, 6, 0), None),
        ((2, 0, 1_400), Some((3, 4, 1_380))),
        ((2, 0, 600), Some((3, 4, 1_260))),
        ((3, 0, 0), Some((11, 0, 0))),
        ((4, 0, 7), Some((12, 0, 8 << 24))),
        ((4, 1, 6), Some((3, 2, 0))),
    ] {
        for length in [8, 9, 15, 500] {
            let told = |(kind, code, word): (u8, u8, u32), frame: Frame, header: usize| {
                let quoted = frame.payload(&[7; 300]).quote(header + length);
                move |from, to| error(from, to, (kind, code), &quoted).word(word)
            };
            let from_router = told(v6, shown.clone(), 40)(router, at("[2001:db8::2]:0"));
            let case = host.case(&format!("{v6:?}"), Hook::Arrives, from_router.clone());
            let Some(v4) = v4 else {
                case.ends(Reason::Nat64NotPlain);
                continue;
            };
            let ran = host.run(Hook::Arrives, from_router.bytes());
            let expected = told(v4, said.clone().id(0), 20)(gateway(0), endpoint(0));
            let expected = expected.id(chosen(&ran.frame).0).hops(63);
            assert_eq!(
                (ran.verdict, ran.frame),
                (REDIRECT, expected.bytes()),
                "{v6:?}"
            );
        }
    }
}

/// An error from the endpoint about what a client asked.
#[test]
fn errors_about_questions() {
    let host = host();
    let (client, asked) = (at(CLIENT), at(DNS));
    let question = |from, to| udp(from, to).payload(&[7; 300]);
    let seen = open(&host, question(client, asked), |from| {
        question(from, endpoint(53))
    });
    for (v4, v6) in [
        ((3, 3, 0), Some((1, 4, 0))),
        ((3, 2, 0), Some((4, 1, 6))),
        ((3, 13, 0), Some((1, 1, 0))),
        ((3, 4, 1_400), Some((2, 0, 1_420))),
        ((3, 14, 0), None),
        ((11, 1, 0), Some((3, 1, 0))),
    ] {
        for length in [8, 9, 15, 308] {
            let told = |(kind, code, word): (u8, u8, u32), frame: Frame, header: usize| {
                let quoted = frame.hops(63).id(0).quote(header + length);
                move |from, to| error(from, to, (kind, code), &quoted).word(word)
            };
            let inside = told(v4, question(seen, endpoint(53)), 20)(endpoint(0), gateway(0));
            let case = host.case(&format!("{v4:?}"), Hook::Bridge, inside);
            match v6 {
                Some(v6) => case.redirects(Reason::IcmpError, {
                    told(v6, question(client, asked), 40)(at("[2001:db8::2]:0"), client).hops(63)
                }),
                None => case.ends(Reason::Nat64NotPlain),
            }
        }
    }
}

/// Damage is not laundered: a wrong checksum is wrong on the other side too, and nothing else is. A damaged error goes
/// no further.
#[test]
fn a_wrong_checksum_stays_wrong() {
    let host = host();
    let (client, asked) = (at(CLIENT), at(DNS));
    let seen = open(&host, udp(client, asked), |from| udp(from, endpoint(53)));
    let damage = |frame: Frame, at: usize| {
        let mut frame = frame.bytes();
        frame[at] ^= 0x55;
        frame
    };
    let mut ran = host
        .run(Hook::Bridge, damage(udp(endpoint(53), seen), 14 + 20 + 6))
        .frame;
    let good = udp(asked, client).hops(63).bytes();
    let there = 14 + 40 + 6..14 + 40 + 8;
    assert_ne!(ran[there.clone()], good[there.clone()]);
    ran[there.clone()].copy_from_slice(&good[there]);
    assert_eq!(ran, good);
    let inside = udp(seen, endpoint(53)).hops(63).id(0).quote(28);
    let outside = udp(asked, client).hops(63).quote(48);
    let (here, router) = (
        error(endpoint(0), gateway(0), (3, 3), &inside),
        at("[2001:db8::1]:0"),
    );
    let there = error(router, at("[2001:db8::2]:0"), (1, 4), &outside);
    for (says, hook, frame) in [
        ("an endpoint's", Hook::Bridge, damage(here, 14 + 20 + 2)),
        ("a router's", Hook::Stack, damage(there, 14 + 40 + 2)),
    ] {
        host.case(says, hook, frame).is(Reason::BadChecksum);
    }
}

/// Endpoints answer to the bridge's address in both families' flows: no two of them have one answer.
#[test]
fn a_port_that_one_family_has_is_not_the_others() {
    let host = host();
    let led = endpoint(80);
    let seen = open(&host, tcp(at(CLIENT), at(WEB), SYN), |from| {
        tcp(from, led, SYN)
    });
    // A neighbour asks for the same endpoint by its IPv4 port, from the very port that the client appears with.
    let neighbour = SocketAddr::from(([172, 17, 0, 3], seen.port()));
    let asked = tcp(neighbour, gateway(8080), SYN);
    let ran = host.run(Hook::Bridge, asked.bytes());
    let port = chosen(&ran.frame).1;
    assert_ne!(port, seen.port());
    assert_eq!(ran.frame, tcp(gateway(port), led, SYN).hops(63).bytes());
    for (from, to, client) in [(led, seen, at(CLIENT)), (led, gateway(port), neighbour)] {
        let case = host.case("SYN-ACK", Hook::Bridge, tcp(from, to, SYN | ACK));
        let back = |asked| tcp(asked, client, SYN | ACK).hops(63);
        match client {
            SocketAddr::V6(_) => case.redirects(Reason::Nat64, back(at(WEB))),
            SocketAddr::V4(_) => case.redirects(Reason::Flow, back(gateway(8080))),
        }
    }
}

/// An IPv6 endpoint asks for the port too, by an address of the host; the answer goes back over the bridge.
#[test]
fn an_endpoint_is_a_client_like_others() {
    let host = host();
    let neighbour = at("[fd00:17::3]:40000");
    for asked in [at(WEB), at("[fd00:17::1]:8064")] {
        let ran = host.run(Hook::Bridge, tcp(neighbour, asked, SYN).bytes());
        let (id, port) = chosen(&ran.frame);
        let led = tcp(gateway(port), endpoint(80), SYN).id(id).hops(63);
        assert_eq!((ran.verdict, ran.frame), (REDIRECT, led.bytes()));
        host.case("SYN-ACK", Hook::Bridge, {
            tcp(endpoint(80), gateway(port), SYN | ACK)
        })
        .redirects(Reason::Nat64, tcp(asked, neighbour, SYN | ACK).hops(63));
        host.case("ACK", Hook::Arrives, tcp(neighbour, asked, ACK))
            .is(Reason::ForgedSource);
    }
}
