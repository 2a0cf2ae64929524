//! Floods turn over the half-open flows, and never touch a connection that stands.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    ops::Range,
};

use datapath_common::family::V4;
use datapath_tests::lab::{PATIENCE, tcp_echo_each, udp_echo};
use datapath_user::kernel::{life::Tier, tables::Tables};

use crate::{
    case::DROP,
    frame::{ACK, SYN, tcp, udp},
    host::{Hook, Host, nets},
};

/// Connections that stand, half of them TCP's.
const STANDING: usize = 200;
/// Flows that the tables hold, and so many times that flood them.
const TABLE: usize = 16_384;
const TIMES: usize = 4;

/// A lab's client with sockets to a published port, or a container's with sockets to a server outside.
struct Standing {
    streams: Vec<TcpStream>,
    sockets: Vec<UdpSocket>,
}

impl Standing {
    fn open() -> Self {
        let streams = (0..STANDING / 2).map(|_| {
            let to: SocketAddr = "203.0.113.2:8080".parse().unwrap();
            let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        });
        let sockets = (0..STANDING / 2).map(|_| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect("203.0.113.2:5300").unwrap();
            socket
        });
        let mut standing = Self {
            streams: streams.collect(),
            sockets: sockets.collect(),
        };
        standing.ask();
        standing
    }

    /// Each of them works.
    fn ask(&mut self) {
        for (number, stream) in self.streams.iter_mut().enumerate() {
            let mut answer = [0];
            let asked = stream
                .write_all(&[number as u8])
                .and_then(|()| stream.read_exact(&mut answer));
            asked.unwrap_or_else(|error| panic!("connection {number}: {error}"));
            assert_eq!(answer, [number as u8]);
        }
        for (number, socket) in self.sockets.iter().enumerate() {
            socket.send(format!("{number}").as_bytes()).unwrap();
            let mut answer = [0; 100];
            let length = socket
                .recv(&mut answer)
                .unwrap_or_else(|error| panic!("socket {number}: {error}"));
            let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
            assert!(answer.ends_with(&format!(" {number}")), "{answer}");
        }
    }
}

#[test]
fn what_stands_outlives_a_flood_of_four_times_the_table() {
    let table = format!("[conntrack]\nmax_flows = {TABLE}\n");
    let host = Host::with("", &table);
    tcp_echo_each(&host.lab.container, "0.0.0.0:80");
    udp_echo(&host.lab.container, "0.0.0.0:53");
    let mut standing = host.lab.lan.enter(Standing::open);
    let tables = Tables::new(host.datapath.pins());
    let count = |tier| tables.batched::<V4>(tier).unwrap().count().unwrap() as usize;
    let before = count(Tier::Established);
    assert!(before >= 2 * STANDING, "{before} entries");
    let [net, _] = nets();
    for (what, to) in [("SYN", 8080), ("UDP", 5300)] {
        let flood: Vec<_> = (0..TABLE * TIMES)
            .map(|number| {
                let addr = Ipv4Addr::from(0x0a00_0000 + number as u32);
                let from = SocketAddr::new(IpAddr::from(addr), 1024 + number as u16 % 60_000);
                let frame = match what {
                    "SYN" => tcp(from, net.host(to), SYN),
                    _ => udp(from, net.host(to)),
                };
                (Hook::Arrives, frame.bytes())
            })
            .collect();
        let dropped = host
            .run_all(flood)
            .iter()
            .filter(|ran| ran.verdict == DROP)
            .count();
        println!("{what}: {dropped} of {} dropped", TABLE * TIMES);
        // What floods is served as far as there is room, which the oldest of it make.
        assert!(dropped < TABLE * TIMES / 10, "{what}: {dropped}");
        assert!(count(Tier::Half) <= 2 * TABLE, "{what}");
        assert_eq!(count(Tier::Established), before, "{what}");
        standing = host.lab.lan.enter(move || {
            standing.ask();
            standing
        });
    }
    // And there is room for new ones.
    drop(host.lab.lan.enter(Standing::open));
}

/// RFC 6888, REQ-11: when there is no room for another established flow, the new one lives among the half-open, and
/// nothing that stands makes room for it.
#[test]
fn a_full_table_keeps_what_it_has_and_serves_new_ones() {
    const FULL: u16 = 4_096;
    const MORE: u16 = 100;
    let host = Host::with("", &format!("[conntrack]\nmax_flows = {FULL}\n"));
    let [net, _] = nets();
    let asked = net.host(8080);
    let client = |number: u16| net.other(10_000 + number);
    let answers = |to, flags| (Hook::Leaves, tcp(net.endpoint(80), to, flags).bytes());
    let says = |from, flags| (Hook::Arrives, tcp(from, asked, flags).bytes());
    let run = |frames: Vec<(Hook, Vec<u8>)>| {
        for (number, ran) in host.run_all(frames).iter().enumerate() {
            assert_ne!(ran.verdict, DROP, "packet {number}");
        }
    };
    let open = |numbers: Range<u16>| {
        run(numbers
            .flat_map(|number| {
                let client = client(number);
                [
                    says(client, SYN),
                    answers(client, SYN | ACK),
                    says(client, ACK),
                ]
            })
            .collect());
    };
    let talk = |numbers: Range<u16>| {
        run(numbers
            .flat_map(|number| [says(client(number), ACK), answers(client(number), ACK)])
            .collect());
    };
    let tables = Tables::new(host.datapath.pins());
    let count = |tier| tables.batched::<V4>(tier).unwrap().count().unwrap();
    open(0..FULL);
    assert_eq!(count(Tier::Established), 2 * u64::from(FULL));
    assert_eq!(count(Tier::Half), 0);
    open(FULL..FULL + MORE);
    assert_eq!(count(Tier::Established), 2 * u64::from(FULL));
    assert_eq!(count(Tier::Half), 2 * u64::from(MORE));
    talk(0..FULL + MORE);
    assert_eq!(count(Tier::Established), 2 * u64::from(FULL));
}
