//! Raw frames: a dozen kinds of packets, cut, stretched and changed at random.
//!
//! Whatever comes in: what is malformed is never translated, what is translated has right checksums if it had
//! them before, no address of an endpoint leaves, and the sum of the network card stays right (the kernel
//! checks that one on every run).

use std::net::IpAddr;

use etherparse::{IpHeaders, NetSlice, SlicedPacket, TransportSlice, checksum::Sum16BitWords};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::{
    case::{DROP, GO_ON, REDIRECT, explain},
    frame::{ACK, ETHERNET, RST, SYN, error, ping, pong, tcp, udp},
    host::{Hook, Host, Ran, nets},
};

/// A dozen kinds of packets in each family, with the hook that sees them.
fn kinds() -> Vec<(Hook, Vec<u8>)> {
    let mut frames = Vec::new();
    for net in nets() {
        let (world, endpoint, own) = (net.world(443), net.endpoint(7000), net.host(8080));
        let unreachable = if net.host.is_ipv4() { (3, 3) } else { (1, 4) };
        let quoted = udp(net.host(7000), world).quote(100);
        let inside = udp(world, net.endpoint(53)).quote(100);
        for (hook, frame) in [
            (Hook::Leaves, udp(endpoint, world)),
            (Hook::Leaves, tcp(endpoint, world, SYN)),
            (Hook::Leaves, ping(endpoint, net.world(0))),
            (Hook::Leaves, error(endpoint, world, unreachable, &inside)),
            (Hook::Arrives, udp(world, net.host(5300))),
            (Hook::Arrives, tcp(world, own, SYN)),
            (Hook::Arrives, tcp(world, own, ACK)),
            (Hook::Arrives, tcp(world, own, RST)),
            (Hook::Arrives, udp(world, net.host(7000))),
            (Hook::Arrives, pong(net.world(0), net.host(7000))),
            (
                Hook::Arrives,
                error(net.other(0), net.host(0), unreachable, &quoted),
            ),
            (Hook::Bridge, udp(endpoint, net.host(5300))),
            (Hook::Bridge, tcp(endpoint, own, SYN)),
        ] {
            frames.push((hook, frame.bytes()));
        }
        let long = udp(world, net.host(5300)).payload(&[1; 100]);
        let fragments = long.fragments(40);
        frames.extend(
            fragments
                .into_iter()
                .map(|fragment| (Hook::Arrives, fragment)),
        );
    }
    frames
}

/// Whether every checksum in a whole packet is right, by a library that is not ours; `None` where it cannot
/// tell: not whole, or in fragments.
fn is_right(frame: &[u8]) -> Option<bool> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (header, rest) = IpHeaders::from_slice(frame.get(ETHERNET..)?).ok()?;
    if rest.fragmented {
        return None;
    }
    let pseudo = match (&header, packet.net?) {
        (IpHeaders::Ipv4(header, _), _) => {
            if header.header_checksum != header.calc_header_checksum() {
                return Some(false);
            }
            Sum16BitWords::new()
                .add_4bytes(header.source)
                .add_4bytes(header.destination)
        }
        (IpHeaders::Ipv6(header, _), NetSlice::Ipv6(_)) => Sum16BitWords::new()
            .add_16bytes(header.source)
            .add_16bytes(header.destination),
        _ => return None,
    };
    let body = rest.payload;
    let length = u16::try_from(body.len()).ok()?.to_be_bytes();
    let pseudo = pseudo.add_2bytes([0, rest.ip_number.0]).add_2bytes(length);
    let (sum, none) = match packet.transport? {
        TransportSlice::Icmpv4(_) => (Sum16BitWords::new(), false),
        TransportSlice::Udp(udp) => (pseudo, udp.checksum() == 0),
        TransportSlice::Tcp(_) | TransportSlice::Icmpv6(_) => (pseudo, false),
        TransportSlice::Igmp(_) => return None,
    };
    Some(none || sum.add_slice(body).ones_complement() == 0)
}

/// The source of a frame's packet.
fn source(frame: &[u8]) -> Option<IpAddr> {
    match (frame.get(12..14)?, frame.get(ETHERNET..)?) {
        ([0x08, 0x00], packet) => Some(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?.into()),
        ([0x86, 0xdd], packet) => Some(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?.into()),
        _ => None,
    }
}

/// Whether an address is an endpoint's.
fn is_inside(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.octets().starts_with(&[172, 17]),
        IpAddr::V6(addr) => addr.segments().starts_with(&[0xfd00, 0x17, 0, 0]),
    }
}

/// Of what follows it the header of a later IPv6 fragment says nothing that counts (RFC 8200, 4.5), so that it is judged
/// as if it named UDP.
fn as_judged(frame: &[u8]) -> Vec<u8> {
    const FRAGMENT: usize = ETHERNET + 40;
    let mut frame = frame.to_vec();
    let offset = frame.get(FRAGMENT + 2..FRAGMENT + 4);
    let is_later = offset.is_some_and(|offset| offset[0] != 0 || offset[1] & 0xf8 != 0);
    if is_later && frame[12..14] == [0x86, 0xdd] && frame[ETHERNET + 6] == 44 {
        frame[FRAGMENT] = 17;
    }
    frame
}

/// What holds for every frame.
fn holds(hook: Hook, frame: &[u8], ran: &Ran) -> Result<(), TestCaseError> {
    let shown = || {
        format!(
            "{hook:?}\nin  {}\nout {}",
            explain(frame),
            explain(&ran.frame)
        )
    };
    prop_assert!(
        [GO_ON, DROP, REDIRECT].contains(&ran.verdict),
        "{}",
        shown()
    );
    prop_assert_eq!(ran.frame.len(), frame.len(), "{}", shown());
    if ran.verdict == DROP {
        return Ok(());
    }
    if hook == Hook::Leaves && source(&ran.frame).is_some_and(is_inside) {
        return Err(TestCaseError::fail(format!("leaked: {}", shown())));
    }
    if ran.frame == frame {
        return Ok(());
    }
    // A packet that ends before its own headers say so was not translated; damage stays damage.
    let [before, after] = [frame, &ran.frame].map(as_judged);
    prop_assert!(
        IpHeaders::from_slice(&before[ETHERNET..]).is_ok(),
        "{}",
        shown()
    );
    prop_assert_eq!(is_right(&before), is_right(&after), "{}", shown());
    Ok(())
}

#[test]
fn every_length_of_every_kind() {
    let host = Host::new();
    let mut frames = Vec::new();
    for (hook, frame) in kinds() {
        let least = ETHERNET + if frame[12] == 0x08 { 20 } else { 40 };
        frames.extend((least..=frame.len()).map(|length| (hook, frame[..length].to_vec())));
        frames.extend((1..40).map(|more| (hook, [frame.clone(), vec![0xa5; more]].concat())));
    }
    let ran = host.run_all(frames.clone());
    let translated = frames
        .iter()
        .zip(&ran)
        .filter(|((_, frame), ran)| ran.verdict != DROP && ran.frame != *frame);
    assert!(translated.count() > 100, "nothing was translated");
    for ((hook, frame), ran) in frames.iter().zip(&ran) {
        holds(*hook, frame, ran).unwrap();
    }
}

#[test]
fn changed_at_random() {
    let host = Host::new();
    let kinds = kinds();
    let change = (0usize..160, any::<u8>());
    let frames = proptest::collection::vec(
        (
            0..kinds.len(),
            proptest::collection::vec(change, 0..4),
            0usize..30,
            0usize..30,
        ),
        64,
    );
    let config = Config {
        cases: 1024,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&frames, |frames| {
            let frames: Vec<_> = frames
                .into_iter()
                .map(|(kind, changes, cut, more)| {
                    let (hook, mut frame) = kinds[kind].clone();
                    let least = ETHERNET + if frame[12] == 0x08 { 20 } else { 40 };
                    for (offset, value) in changes {
                        // The addresses of the frame and its protocol stay: the kernel would not run it.
                        if let Some(byte) = frame.get_mut(ETHERNET + offset) {
                            *byte = value;
                        }
                    }
                    if cut > 20 {
                        frame.truncate((frame.len() - (cut - 20)).max(least));
                    } else if more > 20 {
                        frame.resize(frame.len() + more - 20, 0);
                    }
                    (hook, frame)
                })
                .collect();
            for ((hook, frame), ran) in frames.iter().zip(host.run_all(frames.clone())) {
                holds(*hook, frame, &ran)?;
            }
            Ok(())
        })
        .unwrap();
}
