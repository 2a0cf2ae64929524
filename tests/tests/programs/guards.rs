//! What must never be translated, whatever it looks like.

use std::net::{IpAddr, SocketAddr};

use datapath_common::{proto::ext, reason::Reason};
use datapath_tests::lab::Lab;

use crate::{
    case::{DROP, GO_ON, explain},
    frame::{
        ACK, ETHERNET, FIN, Frame, HOST, RST, SENDER, SYN, error, mend_ipv4_header, ping, tcp, udp,
    },
    headers::extended,
    host::{Hook, Host, Net, nets},
};

#[test]
fn frames_that_are_not_for_this_host_alone() {
    let host = Host::new();
    for net in nets() {
        let frame = tcp(net.world(1), net.host(8080), SYN);
        for (says, to) in [
            ("another's", [0x02, 0, 0, 0, 0, 0x77]),
            ("everybody's", [0xff; 6]),
            ("a group's", [0x33, 0x33, 0, 0, 0, 1]),
        ] {
            let frame = frame.clone().ethernet([to, SENDER]);
            host.case(says, Hook::Arrives, frame).is(Reason::NotForHost);
        }
        let mut tagged = frame.ethernet([HOST, SENDER]).bytes();
        tagged.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        host.case("a VLAN's", Hook::Arrives, tagged)
            .is(Reason::NotIp);
    }
}

#[test]
fn addresses_that_no_wire_may_carry() {
    let host = Host::new();
    let [v4, v6] = nets();
    for (from, net) in [
        ("127.0.0.1:1", v4),
        ("0.0.0.0:1", v4),
        ("224.0.0.1:1", v4),
        ("255.255.255.255:1", v4),
        ("[::1]:1", v6),
        ("[::]:1", v6),
        ("[ff02::1]:1", v6),
    ] {
        let from = from.parse().unwrap();
        host.case("a martian", Hook::Arrives, tcp(from, net.host(8080), SYN))
            .is(Reason::Martian);
    }
    for (from, to) in [(v4.world(1), "127.0.0.1:8080"), (v6.world(1), "[::1]:8080")] {
        let to = to.parse().unwrap();
        host.case("to the loopback", Hook::Arrives, tcp(from, to, SYN))
            .is(Reason::Martian);
    }
    for net in nets() {
        let own = net.host(8080);
        host.case("LAND", Hook::Arrives, tcp(own, own, SYN))
            .is(Reason::Land);
        for from in [net.endpoint(80), net.neighbour(1)] {
            host.case("an endpoint's", Hook::Arrives, tcp(from, own, SYN))
                .is(Reason::ForgedSource);
        }
        let bridge = |port| SocketAddr::new(gateway(&net), port);
        host.case("the bridge's", Hook::Arrives, tcp(bridge(1), own, SYN))
            .is(Reason::ForgedSource);
        // It would leave again, and be taken for an endpoint's there.
        for frame in [
            tcp(net.endpoint(1), net.other(9), SYN),
            udp(net.neighbour(1), net.other(9)),
            ping(net.endpoint(1), net.other(0)),
        ] {
            host.case("an endpoint's, to be sent on", Hook::Arrives, frame)
                .is(Reason::ForgedSource);
        }
        let from = net.host(1);
        host.case(
            "the host's own",
            Hook::Arrives,
            tcp(from, bridge(8080), SYN),
        )
        .is(Reason::Martian);
        for to in [22, 5300, 8080] {
            let frame = udp(loopback(&net), net.host(to));
            host.case("the host's loopback", Hook::Arrives, frame)
                .is(Reason::Martian);
        }
        // Where nothing is published the host's own stack decides.
        host.case(
            "to the host itself",
            Hook::Arrives,
            tcp(from, bridge(22), SYN),
        )
        .is(Reason::NotOurs);
    }
    for to in [
        "203.0.113.255:5300",
        "255.255.255.255:5300",
        "224.0.0.1:5300",
    ] {
        let to = to.parse().unwrap();
        host.case("to many", Hook::Arrives, udp(v4.world(1), to))
            .is(Reason::NotOurs);
    }
}

/// The host's address on the bridge.
fn gateway(net: &Net) -> IpAddr {
    match net.host {
        IpAddr::V4(_) => IpAddr::from([172, 17, 0, 1]),
        IpAddr::V6(_) => IpAddr::from([0xfd00, 0x17, 0, 0, 0, 0, 0, 1]),
    }
}

#[test]
fn an_endpoints_address_never_leaves() {
    let host = Host::new();
    for net in nets() {
        let (from, to) = (net.endpoint(1), net.world(1));
        for flags in [ACK, RST, RST | ACK, FIN | ACK, SYN | ACK, SYN | FIN, 0] {
            let frame = tcp(from, to, flags);
            host.case("no flow", Hook::Leaves, frame).is(Reason::NoFlow);
        }
        let protocol = if from.is_ipv4() {
            ETHERNET + 9
        } else {
            ETHERNET + 6
        };
        for number in [2, 4, 41, 47, 50, 51, 132, 255] {
            let mut frame = udp(from, to).bytes();
            frame[protocol] = number;
            mend_ipv4_header(&mut frame);
            host.case(&format!("protocol {number}"), Hook::Leaves, frame)
                .is(Reason::Leak);
        }
        let about_nothing = udp(to, from).quote(100);
        let unreachable = if from.is_ipv4() { (3, 3) } else { (1, 4) };
        host.case(
            "an error about no flow",
            Hook::Leaves,
            error(from, to, unreachable, &about_nothing),
        )
        .is(Reason::IcmpErrorWithoutFlow);
    }
}

#[test]
fn an_endpoint_sends_from_its_networks_addresses_alone() {
    let host = Host::new();
    for net in nets() {
        for from in [net.host(1), net.world(1)] {
            let frame = udp(from, net.other(1));
            host.case("forged", Hook::Bridge, frame)
                .is(Reason::ForgedSource);
        }
        for (to, reason) in [
            (net.other(1), Reason::NotOurs),
            (net.host(22), Reason::ToHost),
            (net.neighbour(1), Reason::NotOurs),
            (loopback(&net), Reason::Martian),
        ] {
            let frame = tcp(net.endpoint(1), to, SYN);
            host.case("its own", Hook::Bridge, frame).is(reason);
        }
        // As if it were the host itself, which may trust whatever comes from there.
        for to in [net.host(22), net.host(5300), net.other(1)] {
            host.case("the host's", Hook::Bridge, udp(loopback(&net), to))
                .is(Reason::Martian);
        }
        let bridge = SocketAddr::new(gateway(&net), 1);
        for to in [net.host(22), net.host(5300), bridge] {
            host.case("the bridge's", Hook::Bridge, udp(bridge, to))
                .is(Reason::ForgedSource);
        }
    }
    let [v4, v6] = nets();
    // The kernel sends it on as any other.
    let reserved = "240.0.0.1:1".parse().unwrap();
    for to in [v4.other(1), v4.host(22)] {
        host.case("reserved", Hook::Bridge, udp(reserved, to))
            .is(Reason::ForgedSource);
    }
    let link_local = "[fe80::1]:22".parse().unwrap();
    for (from, reason) in [
        (v6.world(1), Reason::ForgedSource),
        (v6.endpoint(1), Reason::NotOurs),
        ("[fe80::2]:1".parse().unwrap(), Reason::NotOurs),
        ("[::]:1".parse().unwrap(), Reason::NotOurs),
    ] {
        host.case("to the link", Hook::Bridge, udp(from, link_local))
            .is(reason);
    }
}

fn loopback(net: &Net) -> SocketAddr {
    match net.host {
        IpAddr::V4(_) => ([127, 0, 0, 1], 8080).into(),
        IpAddr::V6(_) => ([0, 0, 0, 0, 0, 0, 0, 1], 8080).into(),
    }
}

#[test]
fn headers_that_contradict_themselves() {
    let host = Host::new();
    let [v4, v6] = nets();
    let (datagram, segment) = (
        udp(v4.world(1), v4.host(5300)),
        tcp(v4.world(1), v4.host(8080), SYN),
    );
    let total = (segment.bytes().len() - ETHERNET) as u8;
    for (says, frame, offset, value) in [
        ("version 0", &segment, 0, 0x05),
        ("version 6", &segment, 0, 0x65),
        ("header of 16 bytes", &segment, 0, 0x44),
        ("header of none", &segment, 0, 0x40),
        ("header beyond the packet", &datagram, 0, 0x4f),
        ("longer than the frame", &segment, 3, total + 1),
        ("shorter than TCP's header", &segment, 3, 39),
        ("shorter than its own header", &segment, 3, 19),
        ("TCP's header of 16 bytes", &segment, 32, 0x40),
        ("TCP's header beyond the packet", &segment, 32, 0xf0),
        ("UDP longer than the packet", &datagram, 25, 16),
        ("UDP shorter than its header", &datagram, 25, 7),
    ] {
        let mut bytes = frame.bytes();
        bytes[ETHERNET + offset] = value;
        mend_ipv4_header(&mut bytes);
        host.case(says, Hook::Arrives, bytes).is(Reason::Malformed);
    }
    let segment = tcp(v6.world(1), v6.host(8080), SYN);
    let payload = (segment.bytes().len() - ETHERNET - 40) as u8;
    for (says, offset, value) in [
        ("version 4", 0, 0x45),
        ("longer than the frame", 5, payload + 1),
        ("shorter than TCP's header", 5, 19),
        ("TCP's header of 16 bytes", 52, 0x40),
    ] {
        let mut bytes = segment.bytes();
        bytes[ETHERNET + offset] = value;
        host.case(says, Hook::Arrives, bytes).is(Reason::Malformed);
    }
}

/// A frame may be longer than its packet: short packets are padded on the wire.
#[test]
fn padding_is_no_part_of_the_packet() {
    let host = Host::new();
    for net in nets() {
        let padded = |frame: Frame| [frame.payload(b"x").bytes(), vec![0; 11]].concat();
        host.case(
            "a short one",
            Hook::Arrives,
            padded(udp(net.world(1), net.host(5300))),
        )
        .becomes(Reason::Publish, padded(udp(net.world(1), net.endpoint(53))));
    }
}

/// Cut anywhere, a packet that says how long it is is never translated.
#[test]
fn truncated_at_every_byte() {
    let host = Host::new();
    for net in nets() {
        let header = if net.host.is_ipv4() { 20 } else { 40 };
        let quoted = udp(net.host(9), net.world(9)).quote(100);
        let unreachable = if net.host.is_ipv4() { (3, 3) } else { (1, 4) };
        let (world, own, endpoint) = (net.world(9), net.host(8080), net.endpoint(9));
        let mut frames = Vec::new();
        for (hook, frame) in [
            (Hook::Arrives, tcp(world, own, SYN)),
            (Hook::Arrives, udp(world, net.host(5300))),
            (
                Hook::Arrives,
                error(world, net.host(0), unreachable, &quoted),
            ),
            (Hook::Leaves, tcp(endpoint, world, SYN)),
            (Hook::Leaves, udp(endpoint, world)),
            (Hook::Leaves, ping(endpoint, world)),
            (Hook::Bridge, tcp(endpoint, own, SYN)),
            (Hook::Bridge, udp(endpoint, net.host(5300))),
        ] {
            let bytes = frame.bytes();
            // The kernel itself refuses to run a program on less than an IP header.
            let lengths = ETHERNET + header..bytes.len();
            frames.extend(lengths.map(|length| (hook, bytes[..length].to_vec())));
        }
        for ((hook, frame), ran) in frames.iter().zip(host.run_all(frames.clone())) {
            let shown = explain(frame);
            assert_eq!(&ran.frame, frame, "{hook:?} translated {shown}");
            assert_eq!(ran.verdict, DROP, "{hook:?} let pass {shown}");
        }
    }
}

/// Protocols without ports are not translated, and they get no further for that than any other packet does.
#[test]
fn what_is_not_tracked_passes_no_wall() {
    let lab = Lab::new();
    for bridge in ["br1", "br2"] {
        lab.add_bridge(bridge, &[]);
    }
    let networks = "[[network]]\nbridge = \"br1\"\nsubnets = [\"172.18.0.0/16\", \"fd00:18::/64\"]\nrouted = true\n\
                    [[network]]\nbridge = \"br2\"\nsubnets = [\"172.19.0.0/16\", \"fd00:19::/64\"]\n\
                    internal = true\nrouted = true\n";
    let host = Host::on(lab, "forwarding = \"kernel\"", networks);
    for net in nets() {
        let beside = |third: u8| match net.host {
            IpAddr::V4(_) => IpAddr::from([172, third, 0, 2]),
            IpAddr::V6(_) => format!("fd00:{third}::2").parse().expect("an address"),
        };
        let [routed, internal] = [18, 19].map(|third| SocketAddr::new(beside(third), 9));
        let (world, endpoint, own) = (net.world(9), net.endpoint(9), net.host(9));
        for (says, make) in untracked(&net) {
            let case = |hook, from, to| host.case(&says, hook, make(&udp(from, to)));
            case(Hook::Arrives, world, endpoint).is(Reason::Unpublished);
            case(Hook::Arrives, world, internal).is(Reason::Internal);
            let passes = if says.ends_with("headers") {
                Reason::ExtensionHeaders
            } else {
                Reason::UntrackedProtocol
            };
            case(Hook::Arrives, world, routed).is(passes);
            for to in [routed, net.other(9)] {
                case(Hook::Arrives, endpoint, to).is(Reason::ForgedSource);
            }
            case(Hook::Arrives, world, own).is(passes);
            case(Hook::Arrives, world, net.other(9)).is(passes);
            case(Hook::Bridge, endpoint, routed).is(Reason::Isolated);
            case(Hook::Bridge, endpoint, internal).is(Reason::Isolated);
            case(Hook::Bridge, net.other(9), world).is(Reason::ForgedSource);
            case(Hook::Bridge, endpoint, loopback(&net)).is(Reason::Martian);
            case(Hook::Bridge, endpoint, own).is(passes);
            case(Hook::Bridge, endpoint, net.neighbour(9)).is(passes);
            // Where it would leave, it is kept in.
            case(Hook::Bridge, endpoint, world).is(passes);
            case(Hook::Leaves, endpoint, world).is(Reason::Leak);
            // An error that quotes it is for the host, if it is for anybody.
            let unreachable = if net.host.is_ipv4() { (3, 4) } else { (2, 0) };
            let quoted = make(&udp(own, world))[ETHERNET..].to_vec();
            let about = |to| error(net.other(0), to, unreachable, &quoted);
            host.case(&says, Hook::Arrives, about(net.host(0)))
                .is(Reason::NotOurs);
            host.case(&says, Hook::Arrives, about(net.endpoint(0)))
                .is(Reason::IcmpErrorWithoutFlow);
            host.case(&says, Hook::Arrives, about(internal))
                .is(Reason::Internal);
            let forged = |to| error(net.endpoint(0), to, unreachable, &quoted);
            for to in [routed, net.other(0)] {
                host.case(&says, Hook::Arrives, forged(to))
                    .is(Reason::ForgedSource);
            }
        }
    }
}

/// What is made of a frame.
type Make = Box<dyn Fn(&Frame) -> Vec<u8>>;

/// Ways to make a datagram something that is not tracked.
fn untracked(net: &Net) -> Vec<(String, Make)> {
    let v4 = net.host.is_ipv4();
    let place = ETHERNET + if v4 { 9 } else { 6 };
    let protocol = move |number: u8| -> Make {
        Box::new(move |frame| {
            let mut bytes = frame.bytes();
            bytes[place] = number;
            mend_ipv4_header(&mut bytes);
            bytes
        })
    };
    let mut all: Vec<_> = [2, 4, 41, 47, 50, 51, 132, 255]
        .map(|number| (format!("protocol {number}"), protocol(number)))
        .into();
    if !v4 {
        let many = |frame: &Frame| extended(frame, ext::MAX + 1);
        all.push(("too many headers".to_owned(), Box::new(many)));
        // A routing header with a stop to come.
        all.push((
            "a route's headers".to_owned(),
            Box::new(|frame| {
                let mut bytes = extended(frame, 3);
                let routing = ETHERNET + 40 + 8 + 24;
                bytes[routing + 3] = 1;
                bytes
            }),
        ));
    }
    all
}

/// The bridge keeps the ports of such a network apart, and the host does not bring what it is sent from one to another.
#[test]
fn neighbours_that_are_kept_apart_do_not_meet_by_way_of_the_host() {
    let lab = Lab::new();
    lab.add_bridge("br1", &[]);
    lab.host.ip("link set br1 address 02:00:00:00:00:01");
    let apart = "[[network]]\nbridge = \"br1\"\nsubnets = [\"172.18.0.0/16\", \"fd00:18::/64\"]\nicc = false\n";
    let host = Host::on(lab, "forwarding = \"kernel\"", apart);
    let addresses = [
        ["172.18.0.2", "172.18.0.3", "203.0.113.9"],
        ["fd00:18::2", "fd00:18::3", "2001:db8::9"],
    ];
    for addresses in addresses {
        let [one, other, world] = addresses.map(|addr| SocketAddr::new(addr.parse().unwrap(), 9));
        for frame in [udp(one, other), tcp(one, other, SYN), ping(one, other)] {
            let ran = host.run_at("br1", Hook::Bridge, &frame.bytes());
            assert_eq!(ran.verdict, DROP, "{}", explain(&frame.bytes()));
        }
        let ran = host.run_at("br1", Hook::Bridge, &udp(one, world).bytes());
        assert_eq!(ran.verdict, GO_ON);
    }
}
