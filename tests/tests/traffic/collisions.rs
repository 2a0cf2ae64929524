//! Two containers, or a container and the host itself, that send from the same ports to the same servers: every
//! answer comes home.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    thread::JoinHandle,
};

use datapath_tests::lab::{Datapath, Lab, Netns, PATIENCE, tcp_echo_each, udp_echo};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};

/// The ports that both send from.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// Whom they send to.
const SERVERS: [&str; 3] = ["203.0.113.9:7001", "203.0.113.9:7002", "203.0.113.9:7003"];

/// Sends from every port of `ports`, and returns how each was seen outside.
fn ask_all(
    from: &Netns,
    name: &'static str,
    ports: impl Iterator<Item = u16> + Send + 'static,
) -> JoinHandle<BTreeMap<u16, String>> {
    from.spawn(move || {
        let mut seen = BTreeMap::new();
        for port in ports {
            let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(SERVERS[usize::from(port % 3)]).unwrap();
            let sent = format!("{name} {port}");
            socket.send(sent.as_bytes()).unwrap();
            let mut buffer = [0; 100];
            let length = socket
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("{sent}: {error}"));
            let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let (outside, back) = answer.split_once(' ').unwrap();
            assert_eq!(back, sent, "somebody else's answer");
            seen.insert(port, outside.to_owned());
        }
        seen
    })
}

#[test]
fn twenty_thousand_flows_from_the_same_ports() {
    let lab = Lab::new();
    let second = lab.add_container("d", "docker0", &["172.17.0.3/16"], &["172.17.0.1"]);
    for server in SERVERS {
        udp_echo(&lab.lan, server);
    }
    let _datapath = Datapath::start(&lab, "");
    let asked = [
        ask_all(&lab.container, "one", PORTS),
        ask_all(&second, "two", PORTS.rev()),
    ];
    let [one, two] = asked.map(|asked| asked.join().unwrap());
    let outside: BTreeSet<_> = one.values().chain(two.values()).collect();
    assert_eq!(outside.len(), 2 * PORTS.len(), "an outside port was shared");
    // The first are still what they were, and so are those in the middle.
    let again = ask_all(&lab.container, "one", PORTS.step_by(97));
    for (port, outside) in again.join().unwrap() {
        assert_eq!(outside, one[&port], "port {port} changed");
    }
}

/// A connection from this port to the LAN host, on which something was sent and came back.
fn connected(from: &Netns, word: &'static [u8]) -> TcpStream {
    from.enter(move || {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )
        .unwrap();
        setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
        let at = |addr: &str| addr.parse::<SockaddrIn>().unwrap();
        bind(socket.as_raw_fd(), &at("0.0.0.0:5555")).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        connect(stream.as_raw_fd(), &at("203.0.113.9:8000")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        say(&stream, word);
        stream
    })
}

/// Says something to an echo, and hears it.
fn say(mut stream: &TcpStream, word: &[u8]) {
    stream.write_all(word).unwrap();
    let mut heard = vec![0; word.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, word);
}

/// The host itself dials the server that a container talks to, from the port that the container shows there.
#[test]
fn the_host_dials_from_a_port_that_a_container_shows() {
    let lab = Lab::new();
    tcp_echo_each(&lab.lan, "0.0.0.0:8000");
    let _datapath = Datapath::start(&lab, "");
    let container = connected(&lab.container, b"from the container");
    let host = connected(&lab.host, b"from the host");
    for _ in 0..10 {
        say(&container, b"the container's");
        say(&host, b"the host's own");
    }
}
