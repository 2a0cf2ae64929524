//! Published ports: what comes from outside, and what the endpoint answers.

use std::net::SocketAddr;

use datapath_common::{family::V4, reason::Reason};
use datapath_user::kernel::tables::Tables;

use crate::{
    case::GO_ON,
    frame::{ACK, ETHERNET, SYN, tcp, udp},
    host::{Hook, Host, nets},
};

#[test]
fn a_datagram_and_its_answer() {
    let host = Host::new();
    for net in nets() {
        let (client, endpoint) = (net.world(40000), net.endpoint(53));
        host.case("the first", Hook::Arrives, udp(client, net.host(5300)))
            .becomes(Reason::Publish, udp(client, endpoint));
        host.case("the second", Hook::Arrives, udp(client, net.host(5300)))
            .becomes(Reason::Flow, udp(client, endpoint));
        host.case("the answer", Hook::Leaves, udp(endpoint, client))
            .becomes(Reason::Flow, udp(net.host(5300), client));
    }
}

#[test]
fn a_connection() {
    let host = Host::new();
    for net in nets() {
        let (client, asked, endpoint) = (net.world(40000), net.host(8080), net.endpoint(80));
        host.case("SYN", Hook::Arrives, tcp(client, asked, SYN))
            .becomes(Reason::Publish, tcp(client, endpoint, SYN));
        host.case("SYN again", Hook::Arrives, tcp(client, asked, SYN))
            .becomes(Reason::Flow, tcp(client, endpoint, SYN));
        host.case("SYN-ACK", Hook::Leaves, tcp(endpoint, client, SYN | ACK))
            .becomes(Reason::Flow, tcp(asked, client, SYN | ACK));
        host.case("ACK", Hook::Arrives, tcp(client, asked, ACK))
            .becomes(Reason::Flow, tcp(client, endpoint, ACK));
    }
}

#[test]
fn payloads_of_every_length_keep_a_right_checksum() {
    let host = Host::new();
    for net in nets() {
        let (client, endpoint) = (net.world(40000), net.endpoint(53));
        let first = udp(client, net.host(5300));
        host.case("the first", Hook::Arrives, first.clone())
            .becomes(Reason::Publish, udp(client, endpoint));
        for length in 0..=257 {
            let payload: Vec<u8> = (0..length).map(|byte| (byte * 7) as u8).collect();
            let says = format!("{length} bytes");
            host.case(&says, Hook::Arrives, first.clone().payload(&payload))
                .becomes(Reason::Flow, udp(client, endpoint).payload(&payload));
        }
    }
}

#[test]
fn ports_that_are_not_published_are_the_hosts_own() {
    let host = Host::new();
    for net in nets() {
        let client = net.world(40000);
        for frame in [
            tcp(client, net.host(22), SYN),
            udp(client, net.host(8080)),
            tcp(client, net.host(5300), SYN),
        ] {
            host.case("to the host", Hook::Arrives, frame)
                .is(Reason::NotOurs);
        }
        for frame in [
            tcp(client, net.endpoint(80), SYN),
            udp(client, net.endpoint(53)),
        ] {
            host.case("past the ports", Hook::Arrives, frame)
                .is(Reason::Unpublished);
        }
    }
}

/// Two published ports lead to one port of an endpoint, and a client asks both from the same port of its own: the
/// endpoint sees two clients, and each answer comes from the port that was asked.
#[test]
fn one_client_port_at_two_published_ports() {
    let more = ["0.0.0.0:8081", "[::]:8081"].map(|listen| {
        let to = if listen.starts_with('0') {
            "172.17.0.2:80"
        } else {
            "[fd00:17::2]:80"
        };
        format!("[[publish]]\nlisten = \"{listen}\"\nto = \"{to}\"\nprotocol = \"tcp\"\n")
    });
    let host = Host::with("forwarding = \"kernel\"", &more.concat());
    for net in nets() {
        let (client, endpoint) = (net.world(40000), net.endpoint(80));
        host.case("one", Hook::Arrives, tcp(client, net.host(8080), SYN))
            .becomes(Reason::Publish, tcp(client, endpoint, SYN));
        let ran = host.run(Hook::Arrives, tcp(client, net.host(8081), SYN).bytes());
        let l4 = ETHERNET + if net.host.is_ipv4() { 20 } else { 40 };
        let port = u16::from_be_bytes([ran.frame[l4], ran.frame[l4 + 1]]);
        let seen = SocketAddr::new(net.world, port);
        assert_ne!(port, 40000);
        assert_eq!(ran.verdict, GO_ON);
        assert_eq!(ran.frame, tcp(seen, endpoint, SYN).bytes());
        for (to, from) in [(client, net.host(8080)), (seen, net.host(8081))] {
            host.case("the answer", Hook::Leaves, tcp(endpoint, to, SYN | ACK))
                .becomes(Reason::Flow, tcp(from, client, SYN | ACK));
        }
    }
}

/// A flow of a port that is withdrawn at the very moment holds nothing: the port is free for an endpoint that shows it.
#[test]
fn what_is_over_as_soon_as_it_was_opened_holds_no_port() {
    let host = Host::new();
    let [net, _] = nets();
    let tables = Tables::new(host.datapath.pins());
    let (all, mut bindings) = tables.bindings::<V4>().unwrap();
    let mut all = all.entries().unwrap().into_iter();
    let (key, binding) = all.find(|(key, _)| key.port == 5300).unwrap();
    let before = tables.read_generations().unwrap()[binding.slot as usize];
    let generations = tables.generations().unwrap();
    let client = net.world(5301);
    host.datapath.frozen(|| {
        host.case("asked", Hook::Arrives, udp(client, net.host(5300)))
            .becomes(Reason::Publish, udp(client, net.endpoint(53)));
        // As the service does it, and sooner.
        bindings.remove(&key).unwrap();
        generations.put(&[binding.slot], &[before + 1]).unwrap();
        host.case("shown", Hook::Leaves, udp(net.endpoint(5300), client))
            .becomes(Reason::Masquerade, udp(net.host(5300), client));
    });
}
