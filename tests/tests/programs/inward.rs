//! Published ports: what comes from outside, and what the endpoint answers.

use datapath_common::reason::Reason;

use crate::{
    frame::{ACK, SYN, tcp, udp},
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
