//! Checksums at their edges: none, zero, and wrong.

use datapath_common::reason::Reason;

use crate::{
    frame::{ETHERNET, Frame, udp},
    host::{Hook, Host, Net, nets},
};

/// Where UDP's checksum stands in a frame.
fn place(net: &Net) -> usize {
    ETHERNET + 6 + if net.host.is_ipv4() { 20 } else { 40 }
}

fn with(net: &Net, frame: Frame, checksum: u16) -> Vec<u8> {
    let mut bytes = frame.bytes();
    bytes[place(net)..][..2].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn of(net: &Net, frame: &[u8]) -> u16 {
    let place = place(net);
    u16::from_be_bytes([frame[place], frame[place + 1]])
}

/// RFC 768 and RFC 6935: 0 says that there is none.
#[test]
fn a_datagram_without_one_stays_without() {
    let host = Host::new();
    for net in nets() {
        let (client, asked, led) = (net.world(40000), net.host(5300), net.endpoint(53));
        for reason in [Reason::Publish, Reason::Flow] {
            let without = |to| with(&net, udp(client, to), 0);
            host.case("inward", Hook::Arrives, without(asked))
                .becomes(reason, without(led));
        }
        let without = |from| with(&net, udp(from, client), 0);
        host.case("outward", Hook::Leaves, without(led))
            .becomes(Reason::Flow, without(asked));
    }
}

/// One that becomes 0 is sent as all ones: with every value of two bytes of payload, each checksum comes by.
#[test]
fn one_that_becomes_zero_is_sent_as_all_ones() {
    let host = Host::new();
    for net in nets() {
        let (client, asked, led) = (net.world(40000), net.host(5300), net.endpoint(53));
        let payload = |frame: Frame, word: u16| frame.payload(&word.to_be_bytes());
        let word = (0..=u16::MAX)
            .find(|word| of(&net, &payload(udp(client, led), *word).bytes()) == 0xffff)
            .expect("a payload whose sum is all ones");
        let before = payload(udp(client, asked), word);
        assert!(![0, 0xffff].contains(&of(&net, &before.bytes())));
        host.case("becomes zero", Hook::Arrives, before)
            .becomes(Reason::Publish, payload(udp(client, led), word));
    }
}

/// Damage stays visible to the receiver.
#[test]
fn a_wrong_one_stays_wrong() {
    let host = Host::new();
    for net in nets() {
        let (client, asked, led) = (net.world(40000), net.host(5300), net.endpoint(53));
        let right = (
            of(&net, &udp(client, asked).bytes()),
            of(&net, &udp(client, led).bytes()),
        );
        host.case("right", Hook::Arrives, udp(client, asked))
            .becomes(Reason::Publish, udp(client, led));
        for damage in [1u16, 0x0100, 0x7fff, 0xfffe] {
            let broken = |right: u16| {
                let sum = u32::from(right) + u32::from(damage);
                (sum + (sum >> 16)) as u16
            };
            host.case(
                &format!("off by {damage:#x}"),
                Hook::Arrives,
                with(&net, udp(client, asked), broken(right.0)),
            )
            .becomes(Reason::Flow, with(&net, udp(client, led), broken(right.1)));
        }
    }
}
