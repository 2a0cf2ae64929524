//! ICMP errors that end to end traffic lives by: unreachable ports, path MTU, and traceroute.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
};

use datapath_tests::lab::{
    Datapath, Lab, Netns, PATIENCE, PORTS, run, send_frame, tcp_echo, tcp_echo_each, tcp_exchange,
};
use etherparse::PacketBuilder;

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

/// A quotation of a segment that the container may have sent, in an error from a router.
fn forged(kind: (u8, u8), word: [u8; 4], port: u16) -> Vec<u8> {
    let mut quoted = Vec::new();
    PacketBuilder::ipv4([203, 0, 113, 2], [203, 0, 113, 9], 64)
        .tcp(port, 8000, 1, 1000)
        .write(&mut quoted, &[])
        .unwrap();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
        .ipv4([203, 0, 113, 9], [203, 0, 113, 2], 64)
        .icmpv4_raw(kind.0, kind.1, word)
        .write(&mut frame, &quoted)
        .unwrap();
    frame
}

/// Whoever knows addresses and ports may say that the way takes nothing any more, that another router knows it, or
/// that nobody is there (RFC 5927): the transfer goes on.
#[test]
fn forged_errors_end_no_transfer() {
    const BYTES: usize = 8 << 20;
    let lab = Lab::new();
    lab.host.ip("link set eth0 address 02:00:00:00:00:01");
    let datapath = Datapath::start(&lab, PORTS);
    tcp_echo_each(&lab.lan, "203.0.113.9:8000");
    let mut stream = lab
        .container
        .enter(|| TcpStream::connect("203.0.113.9:8000").unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Nobody else has the port, so it is shown as it is.
    let port = stream.local_addr().unwrap().port();
    let mut sender = stream.try_clone().unwrap();
    let sent = thread::spawn(move || sender.write_all(&vec![7; BYTES]));
    let (mut heard, mut buffer, mut round) = (0, vec![0; 1 << 16], 0);
    while heard < BYTES {
        for (kind, word) in [
            ((3, 4), [0, 0, 0, 68]),
            ((3, 4), [0, 0, 0, 0]),
            ((3, 1), [0; 4]),
            ((3, 3), [0; 4]),
            ((11, 0), [0; 4]),
            ((5, 1), [203, 0, 113, 66]),
        ] {
            if round % 16 == 0 {
                send_frame(&lab.lan, "eth0", &forged(kind, word, port)).unwrap();
            }
        }
        round += 1;
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0 && buffer[..length].iter().all(|byte| *byte == 7));
        heard += length;
    }
    sent.join().unwrap().unwrap();
    let stats = datapath.cli(&["stats", "--json"]);
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    let translated = stats["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .find(|reason| reason["reason"] == "icmp-error")
        .unwrap();
    assert!(translated["packets"].as_u64().unwrap() >= 5, "{translated}");
}
