//! Two containers that send from the same ports to the same servers: every answer comes home.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::UdpSocket,
    thread::JoinHandle,
};

use datapath_tests::lab::{Datapath, Lab, Netns, PATIENCE, udp_echo};

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
