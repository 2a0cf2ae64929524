//! ICMP errors that end to end traffic lives by: unreachable ports, path MTU, and traceroute.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use datapath_tests::lab::{Datapath, Lab, Netns, PATIENCE, PORTS, run, tcp_echo, tcp_exchange};

/// A lab with both families, and a host behind a router.
fn lab() -> (Lab, Netns, Datapath) {
    let lab = Lab::new();
    lab.add_ipv6();
    let far = lab.add_far();
    let datapath = Datapath::start(&lab, PORTS);
    (lab, far, datapath)
}

fn is_refused(from: &Netns, to: &str) {
    let to: SocketAddr = to.parse().unwrap();
    let error = from.enter(move || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(to).unwrap();
        socket.send(b"anybody?").unwrap();
        socket.recv(&mut [0; 100]).unwrap_err()
    });
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{to}");
}

#[test]
fn ports_where_nobody_listens() {
    let (lab, far, _datapath) = lab();
    for to in ["198.51.100.7:9", "[2001:db8:7::7]:9"] {
        is_refused(&lab.container, to);
    }
    for to in ["203.0.113.2:5300", "[2001:db8::2]:5300"] {
        is_refused(&far, to);
    }
}

/// The link behind the router takes less than both ends know: only the router's errors tell them.
#[test]
fn path_mtu_both_ways() {
    let (lab, far, _datapath) = lab();
    tcp_echo(&lab.container, "[::]:80");
    tcp_echo(&far, "[::]:8000");
    lab.lan
        .ip("route replace 198.51.100.0/24 dev eth1 mtu lock 1400");
    lab.lan
        .ip("-6 route replace 2001:db8:7::/64 dev eth1 proto kernel metric 256 mtu lock 1400");
    let payload = vec![7; 1 << 20];
    for (from, to) in [
        (&lab.container, "198.51.100.7:8000"),
        (&lab.container, "[2001:db8:7::7]:8000"),
        (&far, "203.0.113.2:8080"),
        (&far, "[2001:db8::2]:8080"),
    ] {
        let answer =
            tcp_exchange(from, to, payload.clone()).unwrap_or_else(|error| panic!("{to}: {error}"));
        assert!(answer == payload, "{to}: {} bytes", answer.len());
    }
    for (to, mtu) in [("198.51.100.7", "mtu 1400"), ("2001:db8:7::7", "mtu 1400")] {
        let route = run(lab.container.command("ip").args(["route", "get", to]));
        let route = String::from_utf8_lossy(&route.stdout).into_owned();
        assert!(
            route.contains(mtu),
            "the container learned nothing: {route}"
        );
    }
}

#[test]
fn traceroute_shows_every_hop() {
    let (lab, far, _datapath) = lab();
    tcp_echo(&far, "[::]:80");
    for (to, hops) in [
        (
            "198.51.100.7",
            ["172.17.0.1", "203.0.113.9", "198.51.100.7"],
        ),
        (
            "2001:db8:7::7",
            ["fd00:17::1", "2001:db8::9", "2001:db8:7::7"],
        ),
    ] {
        for method in ["-U", "-I", "-T"] {
            let traced = run(lab
                .container
                .command("traceroute")
                .args(["-n", "-q1", "-w2", "-m5", method, to]));
            let traced = String::from_utf8_lossy(&traced.stdout).into_owned();
            let shown: Vec<_> = traced
                .lines()
                .skip(1)
                .filter_map(|line| line.split_whitespace().nth(1))
                .collect();
            assert_eq!(shown, hops, "traceroute {method} {to}:\n{traced}");
        }
    }
}
