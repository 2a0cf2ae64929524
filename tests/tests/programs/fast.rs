//! The fast path: plain packets of established flows, whose flow has kept where they go. What it makes of a packet is
//! what the whole body makes of it, and what was kept ends when anything changes that it depends on.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use datapath_common::{reason::Reason, settings::slots};
use datapath_tests::lab::{run, wait_until};

use crate::{
    case::REDIRECT,
    driver::{CLIENT, asked, host, led, without_checksum},
    frame::{ACK, SYN, tcp, udp},
    host::{Hook, Host, nets},
};

/// A map's entry, by bpftool: what to do with it, and the words after that.
fn entry(maps: &Path, map: &str, verb: &str, words: &str) -> Command {
    let mut command = Command::new("bpftool");
    command
        .args(["-j", "map", verb, "pinned"])
        .arg(maps.join(map));
    command.args(words.split_whitespace());
    command
}

/// Every packet twice: the whole body has the first, and the fast path the second, of other lengths.
#[test]
fn the_fast_path_makes_of_a_packet_what_the_whole_body_does() {
    let host = host();
    for net in nets() {
        let to = || led(udp(net.world(CLIENT), net.endpoint(53)));
        for length in [0, 1, 2, 3, 18, 63, 64, 1000, 1401] {
            let payload: Vec<u8> = (0..length).map(|byte| (byte * 7) as u8).collect();
            let case = |says: &str| {
                let frame = asked(&net).payload(&payload);
                host.case(&format!("{says}, {length} bytes"), Hook::Stack, frame)
            };
            case("once").redirects(Reason::Flow, to().payload(&payload));
            case("again").redirects(Reason::Flow, to().payload(&payload));
        }
        let (client, server) = (net.world(CLIENT), net.host(8080));
        let inside = net.endpoint(80);
        host.run(Hook::Stack, Vec::from(tcp(client, server, SYN)));
        host.run(Hook::Leaves, Vec::from(tcp(inside, client, SYN | ACK)));
        for time in ["the third of the handshake", "data", "more data"] {
            let payload = if time == "data" { &b"odd"[..] } else { b"" };
            let segment = |from, to| tcp(from, to, ACK).payload(payload);
            host.case(time, Hook::Stack, segment(client, server))
                .redirects(Reason::Flow, led(segment(client, inside)));
        }
    }
}

/// Over IPv4 a datagram may do without a checksum.
#[test]
fn no_checksum_stays_none_on_the_fast_path() {
    let host = host();
    let net = nets()[0];
    for time in ["once", "again"] {
        let to = led(udp(net.world(CLIENT), net.endpoint(53)));
        host.case(time, Hook::Stack, without_checksum(asked(&net)))
            .redirects(Reason::Flow, without_checksum(to));
    }
}

/// The endpoint's place is taken out of the map behind the service's back, so that only what the flow has kept can send
/// a packet there; and that counts no more once the generation of the ways is another.
#[test]
fn what_a_flow_keeps_ends_with_the_generation() {
    let host = host();
    let net = nets()[0];
    keeps_its_way(&host, || {
        host.run(Hook::Stack, Vec::from(asked(&net))).verdict == REDIRECT
    });
}

/// The third segment of the handshake is the first that a connection's way can be kept of: the request behind it finds it
/// kept.
#[test]
fn a_connections_first_request_goes_by_what_its_handshake_kept() {
    let host = host();
    let net = nets()[0];
    let (server, inside) = (net.host(8080), net.endpoint(80));
    let redirects = |segment| host.run(Hook::Stack, Vec::from(segment)).verdict == REDIRECT;
    let mut ports = CLIENT + 1..;
    host.datapath.frozen(|| {
        let endpoint = Endpoint::of(&host);
        // As below: a loaded machine may take longer between two lines than what is kept lives.
        wait_until("a connection to have kept its way", || {
            let client = net.world(ports.next().expect("a port"));
            endpoint.put();
            host.run(Hook::Stack, Vec::from(tcp(client, server, SYN)));
            host.run(Hook::Leaves, Vec::from(tcp(inside, client, SYN | ACK)));
            assert!(redirects(tcp(client, server, ACK)), "the endpoint is known");
            endpoint.take_out();
            redirects(tcp(client, server, ACK).payload(b"request"))
        });
    });
}

/// Sees that a flow's packets, which go to the first of the endpoints, do so by what the flow has kept.
pub(crate) fn keeps_its_way(host: &Host, goes: impl Fn() -> bool) {
    let ways = format!("key {}", bytes(slots::WAYS));
    host.datapath.frozen(|| {
        let endpoint = Endpoint::of(host);
        // What was kept ends by itself after two seconds, and a loaded machine may take longer between two lines.
        wait_until("the flow to have kept its way", || {
            endpoint.put();
            assert!(goes(), "the endpoint is known");
            endpoint.take_out();
            goes()
        });
        run(&mut entry(
            &endpoint.maps,
            "GENERATIONS",
            "update",
            &format!("{ways} value 255 255 255 15"),
        ));
        assert!(!goes(), "what was kept under another generation");
    });
}

/// A number's bytes, as bpftool takes them.
fn bytes(number: u32) -> String {
    let bytes = number.to_ne_bytes().map(|byte| byte.to_string());
    bytes.join(" ")
}

/// The first of the endpoints, as the service has found it.
struct Endpoint {
    maps: PathBuf,
    /// Its entry's bytes.
    place: String,
}

impl Endpoint {
    const KEY: &str = "key hex ac 11 00 02";

    fn of(host: &Host) -> Self {
        let maps = host.datapath.maps();
        let shown = run(&mut entry(&maps, "ENDPOINTS4", "lookup", Self::KEY));
        let shown: serde_json::Value =
            serde_json::from_slice(&shown.stdout).expect("bpftool's JSON");
        let bytes = shown["value"].as_array().expect("the value's bytes");
        let bytes: Vec<_> = bytes.iter().filter_map(serde_json::Value::as_str).collect();
        Self {
            maps,
            place: bytes.join(" "),
        }
    }

    fn put(&self) {
        let words = format!("{} value {}", Self::KEY, self.place);
        run(&mut entry(&self.maps, "ENDPOINTS4", "update", &words));
    }

    fn take_out(&self) {
        run(&mut entry(&self.maps, "ENDPOINTS4", "delete", Self::KEY));
    }
}
