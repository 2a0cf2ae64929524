//! How packets of flows are sent on: past the stack while nothing there has a say, through it as soon as
//! something has.

#![expect(clippy::disallowed_methods, reason = "tests wait in real time")]

mod firewall;
mod xdp;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use datapath_tests::lab::{
    Datapath, Lab, Netns, PORTS, run, tcp_echo, tcp_exchange, udp_echo, udp_exchange, wait_until,
};

/// What a stream of one mebibyte costs in packets is far more than this.
const FEW: u64 = 30;

/// Packets that the host's stack forwarded, ever.
fn forwarded(host: &Netns) -> u64 {
    let snmp = run(host.command("cat").arg("/proc/net/snmp"));
    let text = String::from_utf8_lossy(&snmp.stdout).into_owned();
    let ip: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("Ip:"))
        .collect();
    let place = ip[0]
        .split(' ')
        .position(|name| name == "ForwDatagrams")
        .unwrap();
    ip[1].split(' ').nth(place).unwrap().parse().unwrap()
}

/// A lab with servers in the container and outside, whose ways are known.
fn lab(keys: &str) -> (Lab, Datapath) {
    let lab = Lab::new();
    let datapath = Datapath::start_with(&lab, keys, PORTS);
    tcp_echo(&lab.container, "0.0.0.0:80");
    udp_echo(&lab.container, "0.0.0.0:53");
    tcp_echo(&lab.lan, "0.0.0.0:8000");
    (lab, datapath)
}

fn exchange(lab: &Lab, length: usize) {
    let payload: Vec<u8> = (0..length).map(|byte| (byte % 251) as u8).collect();
    for (from, to) in [
        (&lab.lan, "203.0.113.2:8080"),
        (&lab.container, "203.0.113.9:8000"),
    ] {
        let answer = tcp_exchange(from, to, payload.clone()).unwrap();
        assert!(answer == payload, "{to}");
    }
}

/// Exchanges until next to nothing of it goes through the stack.
fn until_fast(lab: &Lab) {
    wait_until("packets to pass by the stack", || {
        let before = forwarded(&lab.host);
        exchange(lab, 1 << 20);
        forwarded(&lab.host) - before < FEW
    });
}

#[test]
fn flows_pass_by_the_stack_once_the_way_is_known() {
    let (lab, datapath) = lab("");
    until_fast(&lab);
    let status = String::from_utf8(datapath.cli(&["status"]).stdout).unwrap();
    assert!(status.contains("forwarding: IPv4 fast"), "{status}");
}

#[test]
fn every_packet_goes_through_the_stack_where_that_is_wished() {
    let (lab, _datapath) = lab("forwarding = \"kernel\"");
    for _ in 0..2 {
        let before = forwarded(&lab.host);
        exchange(&lab, 1 << 20);
        let passed = forwarded(&lab.host) - before;
        assert!(passed > FEW, "{passed}");
    }
}

#[test]
fn what_is_too_big_for_the_way_is_answered_by_the_stack() {
    let (lab, _datapath) = lab("");
    until_fast(&lab);
    lab.container.ip("link set eth0 mtu 1300");
    lab.host.ip("link set vc mtu 1300");
    lab.host.ip("link set docker0 mtu 1300");
    exchange(&lab, 1 << 20);
}

#[test]
fn a_container_that_comes_back_elsewhere_is_found_with_and_without_the_service() {
    let (lab, mut datapath) = lab("");
    until_fast(&lab);
    for (round, dead) in [false, true].into_iter().enumerate() {
        if dead {
            datapath.kill();
        }
        lab.host.ip(&format!(
            "link del {}",
            if round == 0 { "vc" } else { "vc0" }
        ));
        lab.host.ip(&format!(
            "link add vc{round} type veth peer name eth0 netns {}",
            lab.container.name()
        ));
        lab.host
            .ip(&format!("link set vc{round} master docker0 up"));
        lab.container.ip("addr add 172.17.0.2/16 dev eth0");
        lab.container.ip("link set eth0 up");
        lab.container.ip("route add default via 172.17.0.1");
        exchange(&lab, 100_000);
    }
}

#[test]
fn a_neighbour_outside_that_changes_its_card_is_found_again() {
    let (lab, mut datapath) = lab("");
    until_fast(&lab);
    for (card, dead) in [("02:00:00:00:00:01", false), ("02:00:00:00:00:02", true)] {
        if dead {
            datapath.kill();
        }
        lab.lan.ip("link set eth0 down");
        lab.lan.ip(&format!("link set eth0 address {card}"));
        lab.lan.ip("link set eth0 up");
        // Its own packets tell the host who has the address now.
        wait_until("the way to the new card", || {
            udp_exchange(&lab.lan, "203.0.113.2:5300", "here").is_ok()
        });
        exchange(&lab, 100_000);
    }
}
