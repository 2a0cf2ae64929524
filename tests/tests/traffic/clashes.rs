//! Moments that meet: many threads on one socket, flows that are flushed while they are used, and a container that
//! wishes for a port of the host's.

use std::{
    collections::BTreeSet,
    net::UdpSocket,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use datapath_tests::lab::{Datapath, Lab, Netns, PATIENCE, PORTS, udp_echo, udp_server};

/// How many threads use one socket.
const THREADS: usize = 128;

fn bound(netns: &Netns, addr: &str) -> UdpSocket {
    let addr = addr.to_owned();
    let socket = netns.enter(move || UdpSocket::bind(addr).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A datagram, and whom it is from.
fn heard(socket: &UdpSocket) -> (String, String) {
    let mut buffer = [0; 200];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    (text, from.to_string())
}

/// A socket's first datagrams leave on several CPUs at once: they are one flow, and none is lost.
#[test]
fn many_threads_on_one_socket() {
    let lab = Lab::new();
    let _datapath = Datapath::start(&lab, PORTS);
    udp_echo(&lab.lan, "0.0.0.0:5353");
    udp_echo(&lab.container, "0.0.0.0:53");
    for round in 0..10 {
        for (from, to) in [
            (&lab.container, "203.0.113.9:5353"),
            (&lab.lan, "203.0.113.2:5300"),
        ] {
            let socket = bound(from, "0.0.0.0:0");
            let barrier = Barrier::new(THREADS);
            thread::scope(|scope| {
                for number in 0..THREADS {
                    let (socket, barrier) = (&socket, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        socket.send_to(number.to_string().as_bytes(), to).unwrap();
                    });
                }
            });
            let (mut outside, mut back) = (BTreeSet::new(), BTreeSet::new());
            for _ in 0..THREADS {
                let (text, from) = heard(&socket);
                assert_eq!(from, to, "round {round}");
                let (seen, number) = text.split_once(' ').unwrap();
                outside.insert(seen.to_owned());
                back.insert(number.parse::<usize>().unwrap());
            }
            assert_eq!(outside.len(), 1, "round {round} to {to}: {outside:?}");
            assert_eq!(back, (0..THREADS).collect(), "round {round} to {to}");
        }
    }
}

/// Flows are flushed in a loop while two sockets talk: what comes between is lost, but no port changes.
#[test]
fn flushing_changes_no_port() {
    const FLUSHES: usize = 30;
    const EXCHANGES: usize = 1_000;
    let lab = Lab::new();
    let second = lab.add_container("d", "docker0", &["172.17.0.3/16"], &["172.17.0.1"]);
    let datapath = Datapath::start(&lab, PORTS);
    let server = "203.0.113.9:5353";
    udp_echo(&lab.lan, server);
    // The first has the port that both wish for.
    let first = bound(&lab.container, "0.0.0.0:6000");
    first.send_to(b"mine", server).unwrap();
    assert_eq!(heard(&first).0, "203.0.113.2:6000 mine");
    let socket = bound(&second, "0.0.0.0:6000");
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let (flushes, start) = (AtomicUsize::new(0), Instant::now());
    let mut outside = BTreeSet::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while flushes.load(Ordering::Relaxed) < FLUSHES {
                assert!(datapath.cli(&["flows", "flush"]).status.success());
                flushes.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut exchanges = 0;
        while exchanges < EXCHANGES || flushes.load(Ordering::Relaxed) < FLUSHES {
            assert!(start.elapsed() < 6 * PATIENCE, "{exchanges} exchanges");
            socket.send_to(b"x", server).unwrap();
            let mut buffer = [0; 100];
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                assert_eq!(from.to_string(), server);
                outside.insert(String::from_utf8_lossy(&buffer[..length]).into_owned());
                exchanges += 1;
            }
        }
    });
    assert_eq!(outside.len(), 1, "{outside:?}");
    assert!(!outside.contains("203.0.113.2:6000 x"), "{outside:?}");
}

/// "Port shadow": a container sends from the port of one of the host's services to a client of it, to be taken for
/// the service. It shows another port, and the client still reaches the service.
#[test]
fn no_container_stands_in_for_a_service_of_the_host() {
    let lab = Lab::new();
    let _datapath = Datapath::start(&lab, PORTS);
    udp_server(&lab.host, "0.0.0.0:1405", "the host");
    let client = bound(&lab.lan, "203.0.113.9:41404");
    let container = bound(&lab.container, "0.0.0.0:1405");
    let ask = |to: &str, expected: &str| {
        client.send_to(b"who is there?", to).unwrap();
        assert_eq!(heard(&client), (expected.to_owned(), to.to_owned()));
    };
    container.send_to(b"me", "203.0.113.9:41404").unwrap();
    let (said, from) = heard(&client);
    assert_eq!(said, "me");
    assert!(
        from.starts_with("203.0.113.2:") && !from.ends_with(":1405"),
        "{from}"
    );
    ask("203.0.113.2:1405", "the host");
    client.send_to(b"an answer", &from).unwrap();
    assert_eq!(heard(&container).0, "an answer");
    // A service that begins on a port which is shown already serves all but those that the container wrote to.
    let early = bound(&lab.container, "0.0.0.0:1406");
    early.send_to(b"me", "203.0.113.9:5000").unwrap();
    udp_server(&lab.host, "0.0.0.0:1406", "the host");
    ask("203.0.113.2:1406", "the host");
    early.send_to(b"me again", "203.0.113.9:41404").unwrap();
    let (said, from) = heard(&client);
    assert_eq!(said, "me again");
    assert!(!from.ends_with(":1406"), "{from}");
    ask("203.0.113.2:1406", "the host");
}
