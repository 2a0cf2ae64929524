//! Source ports: kept where nobody else has them, never shared, and searched for to the last one.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use aya::maps::{HashMap, Map, MapData};
use datapath_common::{
    family::V4,
    mapping::{Mapping, MappingKey},
    reason::Reason,
};
use datapath_tests::lab::{tcp_echo, udp_echo, wait_until};

use crate::{
    case::{DROP, GO_ON},
    frame::{ETHERNET, Frame, SYN, ping, tcp, udp},
    host::{Hook, Host, Net, nets},
};

/// A range that is soon used up.
const FEW: &str = "[nat]\nports = \"50000-50015\"\n";

/// How a first packet is made.
type Make = fn(SocketAddr, SocketAddr) -> Frame;

const KINDS: [(&str, Make); 3] = [
    ("TCP", |from, to| tcp(from, to, SYN)),
    ("UDP", udp),
    ("ICMP", ping),
];

/// The endpoints of a network, one after the other.
fn endpoint(net: &Net, number: u8) -> IpAddr {
    match net.endpoint {
        IpAddr::V4(_) => Ipv4Addr::new(172, 17, 1, number).into(),
        IpAddr::V6(_) => {
            Ipv6Addr::new(0xfd00, 0x17, 0, 0, 0, 0, 0, 0x100 + u16::from(number)).into()
        }
    }
}

/// The source port of a frame, or its identifier.
fn shown(net: &Net, kind: &str, frame: &[u8]) -> u16 {
    let l4 = ETHERNET + if net.host.is_ipv4() { 20 } else { 40 };
    let offset = l4 + if kind == "ICMP" { 4 } else { 0 };
    u16::from_be_bytes([frame[offset], frame[offset + 1]])
}

/// RFC 4787, REQ-3: everybody sends from the same port to the same server. One keeps it, every port of the
/// range is found for the others, no port is given twice, and who comes too late is refused.
#[test]
fn every_port_is_found_and_none_is_shared() {
    let host = Host::with("forwarding = \"kernel\"", FEW);
    for net in nets() {
        for (kind, make) in KINDS {
            let server = if kind == "ICMP" {
                net.world(0)
            } else {
                net.world(443)
            };
            let first = |number| make(SocketAddr::new(endpoint(&net, number), 1234), server);
            let mut ports = BTreeSet::new();
            for number in 0..17 {
                let ran = host.run(Hook::Leaves, first(number).bytes());
                assert_eq!(ran.verdict, GO_ON, "{kind}: flow {number}");
                let port = shown(&net, kind, &ran.frame);
                let source = SocketAddr::new(net.host, port);
                assert_eq!(
                    ran.frame,
                    make(source, server).bytes(),
                    "{kind}: flow {number}"
                );
                assert!(ports.insert(port), "{kind}: port {port} twice");
            }
            let expected: BTreeSet<_> = [1234].into_iter().chain(50_000..=50_015).collect();
            assert_eq!(ports, expected, "{kind}");
            host.case(kind, Hook::Leaves, first(17))
                .is(Reason::PortsExhausted);
            // Those that have one keep it.
            for number in 0..17 {
                let ran = host.run(Hook::Leaves, first(number).bytes());
                assert!(ports.contains(&shown(&net, kind, &ran.frame)), "{kind}");
            }
        }
    }
}

/// RFC 4787, REQ-1: whatever the port, everybody outside is shown the same one.
#[test]
fn a_mapping_is_the_same_to_everybody() {
    let host = Host::new();
    for net in nets() {
        for (kind, make) in &KINDS[1..] {
            let mut seen = BTreeSet::new();
            for number in [0, 1] {
                let inside = SocketAddr::new(endpoint(&net, number), 4321);
                let ports: BTreeSet<_> = [net.world(1), net.world(2), net.other(1)]
                    .map(|server| {
                        let ran = host.run(Hook::Leaves, make(inside, server).bytes());
                        shown(&net, kind, &ran.frame)
                    })
                    .into();
                assert_eq!(ports.len(), 1, "{kind}: {ports:?}");
                assert!(seen.insert(ports), "{kind}: shared");
            }
        }
    }
}

/// RFC 4787, REQ-6: what the endpoint sends keeps the mapping, and what is sent to it does not.
#[test]
fn a_mapping_lives_as_long_as_its_flow_is_used() {
    let host = Host::with("forwarding = \"kernel\"", "[conntrack]\nmapping = \"1s\"\n");
    let [net, _] = nets();
    let (inside, server) = (net.endpoint(4321), net.world(53));
    let deadlines = || -> BTreeSet<u64> {
        let map = host.datapath.maps().join("MAPPINGS4");
        let map = Map::LruHashMap(MapData::from_pin(map).unwrap());
        let mappings: HashMap<_, MappingKey<V4>, Mapping<V4>> = map.try_into().unwrap();
        mappings
            .iter()
            .map(|entry| entry.unwrap().1.deadline)
            .collect()
    };
    host.case("the first", Hook::Leaves, udp(inside, server))
        .becomes(Reason::Masquerade, udp(net.host(4321), server));
    let first = deadlines();
    assert_eq!(first.len(), 1, "both halves end together");
    wait_until("the mapping to be pushed forward", || {
        host.case("an answer", Hook::Arrives, udp(server, net.host(4321)))
            .becomes(Reason::Flow, udp(server, inside));
        let before = deadlines();
        host.case("the next", Hook::Leaves, udp(inside, server))
            .becomes(Reason::Flow, udp(net.host(4321), server));
        assert_eq!(before, first, "an answer pushed it");
        deadlines() > first
    });
    assert_eq!(deadlines().len(), 1, "one half was left behind");
}

#[test]
fn a_port_that_somebody_else_needs_is_never_taken() {
    let host = Host::new();
    tcp_echo(&host.lab.host, "[::]:2222");
    udp_echo(&host.lab.host, "[::]:2222");
    for net in nets() {
        for (kind, make) in &KINDS[..2] {
            for taken in [if *kind == "TCP" { 8080 } else { 5300 }, 2222] {
                let ran = host.run(
                    Hook::Leaves,
                    make(net.endpoint(taken), net.world(9)).bytes(),
                );
                assert_eq!(ran.verdict, GO_ON, "{kind}");
                let port = shown(&net, kind, &ran.frame);
                assert!(
                    (32_768..=60_999).contains(&port),
                    "{kind}: {taken} became {port}"
                );
            }
        }
    }
}

/// RFC 6056: ports seen so far do not tell the next.
#[test]
fn ports_are_not_given_in_order() {
    let host = Host::new();
    let [net, _] = nets();
    let ports: Vec<_> = (0..100)
        .map(|number| {
            let from = SocketAddr::new(endpoint(&net, number), 1234);
            let ran = host.run(Hook::Leaves, tcp(from, net.world(443), SYN).bytes());
            assert_ne!(ran.verdict, DROP);
            shown(&net, "TCP", &ran.frame)
        })
        .skip(1)
        .collect();
    let steps: BTreeSet<_> = ports
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]))
        .collect();
    assert!(steps.len() > 90, "{steps:?}");
}

/// RFC 4787, REQ-3a: a port below 1024 that is taken becomes another one there.
#[test]
fn privileged_ports_stay_privileged() {
    let host = Host::new();
    for net in nets() {
        for (kind, make) in &KINDS[..2] {
            let mut seen = BTreeSet::new();
            for number in 0..40 {
                let from = SocketAddr::new(endpoint(&net, number), 123);
                let ran = host.run(Hook::Leaves, make(from, net.world(123)).bytes());
                assert_eq!(ran.verdict, GO_ON, "{kind}");
                assert!(seen.insert(shown(&net, kind, &ran.frame)), "{kind}");
            }
            let others = seen.iter().filter(|port| **port != 123);
            assert!(
                others.clone().all(|port| (512..1024).contains(port)),
                "{kind}: {seen:?}"
            );
            assert_eq!(others.count(), 39, "{kind}");
        }
    }
}

/// A process of the host takes a port that a mapping shows: flows that there are keep it, and those to come show
/// another, the same to everybody.
#[test]
fn a_mapping_gives_way_to_a_socket_of_the_host() {
    let host = Host::new();
    let port = |net: &Net, server| {
        let ran = host.run(Hook::Leaves, udp(net.endpoint(4321), server).bytes());
        assert_eq!(ran.verdict, GO_ON);
        shown(net, "UDP", &ran.frame)
    };
    for net in nets() {
        assert_eq!(port(&net, net.world(1)), 4321);
    }
    udp_echo(&host.lab.host, "[::]:4321");
    for net in nets() {
        assert_eq!(port(&net, net.world(1)), 4321, "a flow's port changed");
        let new = port(&net, net.world(2));
        assert!((32_768..=60_999).contains(&new), "{new}");
        assert_eq!(port(&net, net.world(3)), new);
        assert_eq!(port(&net, net.other(1)), new);
        host.case(
            "an answer",
            Hook::Arrives,
            udp(net.world(1), net.host(4321)),
        )
        .becomes(Reason::Flow, udp(net.world(1), net.endpoint(4321)));
        host.case(
            "to the process",
            Hook::Arrives,
            udp(net.world(2), net.host(4321)),
        )
        .is(Reason::NotOurs);
    }
}
