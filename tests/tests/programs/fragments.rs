//! Datagrams in fragments: the first carries the ports, the others follow it.

use datapath_common::{family::V4, fragment::LIFETIME, proto::ext, reason::Reason};
use datapath_user::kernel::{clock, tables::Tables};

use crate::{
    case::{GO_ON, REDIRECT},
    frame::{ETHERNET, Frame, SYN, mend_ipv4_header, tcp, udp},
    host::{Hook, Host, Ran, nets},
};

/// A datagram of three fragments.
fn long(frame: Frame) -> Frame {
    let payload: Vec<u8> = (0..100).collect();
    frame.payload(&payload)
}

/// Every fragment becomes the same fragment of the translated datagram.
fn follow(host: &Host, hook: Hook, first: Reason, from: &Frame, to: &Frame) {
    let pairs = from.fragments(40).into_iter().zip(to.fragments(40));
    for (number, (from, to)) in pairs.enumerate() {
        let reason = if number == 0 { first } else { Reason::Fragment };
        let says = format!("fragment {number}");
        host.case(&says, hook, from).becomes(reason, to);
    }
}

#[test]
fn both_ways_in_order() {
    let host = Host::new();
    for net in nets() {
        let (client, asked, endpoint) = (net.world(40000), net.host(5300), net.endpoint(53));
        let (question, led) = (long(udp(client, asked)), long(udp(client, endpoint)));
        follow(&host, Hook::Arrives, Reason::Publish, &question, &led);
        let (answer, shown) = (long(udp(endpoint, client)), long(udp(asked, client)));
        follow(&host, Hook::Leaves, Reason::Flow, &answer, &shown);
        let (out, shown) = (
            long(udp(net.endpoint(7), net.world(7))).id(99),
            long(udp(net.host(7), net.world(7))).id(99),
        );
        follow(&host, Hook::Leaves, Reason::Masquerade, &out, &shown);
    }
}

#[test]
fn later_ones_in_any_order_and_again() {
    let host = Host::new();
    for net in nets() {
        let (client, asked, endpoint) = (net.world(40000), net.host(5300), net.endpoint(53));
        let from = long(udp(client, asked)).fragments(40);
        let to = long(udp(client, endpoint)).fragments(40);
        for (number, reason) in [
            (0, Reason::Publish),
            (2, Reason::Fragment),
            (1, Reason::Fragment),
            (1, Reason::Fragment),
            (0, Reason::Flow),
        ] {
            host.case("in disorder", Hook::Arrives, from[number].clone())
                .becomes(reason, to[number].clone());
        }
    }
}

/// RFC 4787, REQ-14a: one that comes too early goes round until its first has passed, where that can help.
#[test]
fn a_later_one_without_its_first_waits_and_is_never_sent_out() {
    let host = Host::new();
    for net in nets() {
        let arriving = long(udp(net.world(1), net.host(5300))).fragments(40);
        let leaving = long(udp(net.endpoint(1), net.world(1))).fragments(40);
        let turned = long(udp(net.endpoint(1), net.host(5300))).fragments(40);
        for number in [1, 2] {
            host.case("inward", Hook::Arrives, arriving[number].clone())
                .waits();
            host.case("from an endpoint", Hook::Bridge, leaving[number].clone())
                .waits();
            host.case("to the host", Hook::Bridge, turned[number].clone())
                .waits();
            host.case("outward", Hook::Leaves, leaving[number].clone())
                .is(Reason::FragmentWithoutFirst);
        }
        let past = long(udp(net.world(1), net.endpoint(53))).fragments(40);
        host.case("past the ports", Hook::Arrives, past[1].clone())
            .is(Reason::Unpublished);
    }
}

/// The same datagram in fragments of IPv6 that carry so many bytes, with an option for its destination behind the
/// fragments' header: only in the first does what follows come before what has ports (RFC 8200, 4.1).
fn with_an_option(frame: &Frame, size: usize) -> Vec<Vec<u8>> {
    const HEADERS: usize = ETHERNET + 40;
    let whole = frame.bytes();
    let (headers, datagram) = whole.split_at(HEADERS);
    let padding = [headers[ETHERNET + 6], 0, 1, 4, 0, 0, 0, 0];
    let carried = [&padding[..], datagram].concat();
    let pieces = carried.chunks(size).enumerate();
    let fragment = |(number, piece): (usize, &[u8])| {
        let offset = number * size;
        let more = offset + piece.len() < carried.len();
        let mut bytes = headers.to_vec();
        bytes[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&(8 + piece.len() as u16).to_be_bytes());
        bytes[ETHERNET + 6] = ext::FRAGMENT;
        bytes.extend([ext::DESTINATION, 0]);
        bytes.extend((offset as u16 | u16::from(more)).to_be_bytes());
        bytes.extend(77_u32.to_be_bytes());
        bytes.extend(piece);
        bytes
    };
    pieces.map(fragment).collect()
}

#[test]
fn later_ones_that_name_another_header_follow_all_the_same() {
    let host = Host::new();
    let [_, net] = nets();
    let (client, asked, endpoint) = (net.world(40000), net.host(5300), net.endpoint(53));
    let (inside, shown, server) = (net.endpoint(7), net.host(7), net.world(7));
    for (hook, first, from, to) in [
        (
            Hook::Arrives,
            Reason::Publish,
            udp(client, asked),
            udp(client, endpoint),
        ),
        (
            Hook::Leaves,
            Reason::Masquerade,
            udp(inside, server),
            udp(shown, server),
        ),
    ] {
        let pieces = |frame| with_an_option(&long(frame), 40);
        for (number, (from, to)) in pieces(from).into_iter().zip(pieces(to)).enumerate() {
            let reason = if number == 0 { first } else { Reason::Fragment };
            host.case(&format!("fragment {number}"), hook, from)
                .becomes(reason, to);
        }
    }
    let early = with_an_option(&long(udp(net.other(7), asked)), 40)[1].clone();
    host.case("before the first", Hook::Arrives, early).waits();
}

/// The same identification from somebody else, to somebody else, or of another protocol in IPv4 is another datagram.
#[test]
fn a_note_is_for_one_datagram_alone() {
    let host = Host::new();
    for net in nets() {
        let (client, asked) = (net.world(40000), net.host(5300));
        let first = long(udp(client, asked)).fragments(40)[0].clone();
        let led = long(udp(client, net.endpoint(53))).fragments(40)[0].clone();
        host.case("the first", Hook::Arrives, first)
            .becomes(Reason::Publish, led);
        let mut others = vec![
            long(udp(net.other(40000), asked)),
            long(udp(client, asked)).id(0x4321),
        ];
        if net.host.is_ipv4() {
            others.push(long(tcp(client, net.host(5300), SYN)));
        }
        for other in others {
            host.case("another", Hook::Arrives, other.fragments(40)[1].clone())
                .waits();
        }
    }
}

/// Datagrams for the host itself are none of ours, and their fragments wait for nothing.
#[test]
fn the_hosts_own_pass_at_once() {
    let host = Host::new();
    for net in nets() {
        let inward = long(udp(net.world(1), net.host(22)));
        let outward = long(udp(net.endpoint(1), net.host(22)));
        for number in 0..3 {
            host.case(
                "inward",
                Hook::Arrives,
                inward.fragments(40)[number].clone(),
            )
            .is(Reason::NotOurs);
            host.case(
                "from an endpoint",
                Hook::Bridge,
                outward.fragments(40)[number].clone(),
            )
            .is(Reason::ToHost);
        }
        let neighbours = long(udp(net.endpoint(1), net.neighbour(1))).fragments(40);
        host.case("to a neighbour", Hook::Bridge, neighbours[1].clone())
            .is(Reason::NotOurs);
        let mut other = long(udp(net.world(1), net.host(5300))).fragments(40)[1].clone();
        // Of a protocol whose first fragment has no ports.
        let place = ETHERNET + if net.host.is_ipv4() { 9 } else { 40 };
        other[place] = 47;
        if net.host.is_ipv4() {
            mend_ipv4_header(&mut other);
        }
        host.case("of another protocol", Hook::Arrives, other)
            .is(Reason::NotOurs);
    }
}

/// Few wait at a time: a flood of fragments takes no more than its share, and what is in order passes.
#[test]
fn a_flood_of_later_ones_does_not_wait() {
    let host = Host::new();
    for net in nets() {
        let flood: Vec<_> = (0..2_000)
            .map(|id| {
                let frame = long(udp(net.other(1), net.host(5300))).id(id);
                (Hook::Arrives, frame.fragments(40)[1].clone())
            })
            .collect();
        let waiting = |ran: &&Ran| ran.verdict == REDIRECT;
        let waited = host.run_all(flood).iter().filter(waiting).count();
        assert!(waited < 1_000, "{waited} of 2,000 waited");
        let (client, asked, endpoint) = (net.world(40000), net.host(5300), net.endpoint(53));
        let (question, led) = (long(udp(client, asked)), long(udp(client, endpoint)));
        follow(&host, Hook::Arrives, Reason::Publish, &question, &led);
    }
}

/// RFC 1858: a first fragment too short for the ports that decide is no first fragment.
#[test]
fn a_first_one_too_short_for_its_header_is_dropped() {
    let host = Host::new();
    for net in nets() {
        let tiny = long(tcp(net.world(1), net.host(8080), SYN)).fragments(8);
        host.case("8 bytes of TCP", Hook::Arrives, tiny[0].clone())
            .is(Reason::Malformed);
    }
}

/// First fragments whose others never come take bounded room, and nothing from those that are whole.
#[test]
fn idle_first_ones_take_bounded_room() {
    const NOTES: usize = 4_096;
    let host = Host::new();
    let [net, _] = nets();
    let (client, asked, endpoint) = (net.world(40000), net.host(5300), net.endpoint(53));
    let flood: Vec<_> = (0..=u16::MAX)
        .map(|id| {
            let first = long(udp(net.other(1), asked)).id(id).fragments(40)[0].clone();
            (Hook::Arrives, first)
        })
        .collect();
    let mut flood = host.run_all(flood).into_iter();
    assert!(flood.all(|ran| ran.verdict == GO_ON));
    let (notes, _) = Tables::new(host.datapath.pins()).fragments::<V4>().unwrap();
    let count = notes.count().unwrap() as usize;
    assert!((1..=NOTES).contains(&count), "{count} notes");
    let now = clock::now().unwrap();
    notes
        .scan(|_, notes| {
            assert!(notes.iter().all(|note| note.deadline <= now + LIFETIME));
            Ok(())
        })
        .unwrap();
    host.case("a whole one", Hook::Arrives, udp(client, asked))
        .becomes(Reason::Publish, udp(client, endpoint));
    let (question, led) = (long(udp(client, asked)), long(udp(client, endpoint)));
    follow(&host, Hook::Arrives, Reason::Flow, &question, &led);
}
