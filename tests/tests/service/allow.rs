//! Allow-lists on real connections: changed while they are open, kept without a service, and refused when they make
//! no sense.

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    process::Output,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use datapath_common::family::V4;
use datapath_tests::lab::{
    Datapath, Lab, Netns, run, tcp_echo, tcp_exchange, udp_echo, udp_exchange, wait_until,
};
use datapath_user::kernel::tables::Tables;
use serde_json::Value;

use crate::{
    flows::fill,
    talk::{self, Talk},
};

/// What `ports --json` says of the first port.
fn port(datapath: &Datapath, field: &str) -> Value {
    let output = datapath.cli(&["ports", "--json"]);
    let mut ports: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    ports["ports"][0][field].take()
}

/// Whether a connection comes about at once: no is soon said.
fn connects(from: &Netns, to: &str) -> bool {
    let to: SocketAddr = to.parse().expect("an address");
    from.enter(move || TcpStream::connect_timeout(&to, Duration::from_millis(500)).is_ok())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_change_ends_the_flows_of_others_and_of_nobody_else() {
    let lab = Lab::new();
    lab.add_ipv6();
    let far = lab.add_far();
    let neighbour = lab.add_container("n", "docker0", &["172.17.0.3/16"], &["172.17.0.1"]);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut datapath = Datapath::start(&lab, "");
    let ask = |netns: &Netns| Talk::open(netns, "203.0.113.2:8080");
    let asks = |netns: &Netns| connects(netns, "203.0.113.2:8080");
    let lists = |datapath: &Datapath, networks: &[&str]| {
        let arguments = [&["allow", "8080"], networks].concat();
        let output = datapath.cli(&arguments);
        assert!(output.status.success(), "{}", said(&output));
    };
    let allow = "203.0.113.0/24,198.51.100.7";
    let published = datapath.cli(&["publish", "8080:80", "--to", "172.17.0.2", "--allow", allow]);
    assert!(published.status.success(), "{}", said(&published));

    let (mut near, mut distant) = (ask(&lab.lan).unwrap(), ask(&far).unwrap());
    ask(&lab.host).expect("the host itself is not asked");
    assert!(!asks(&neighbour), "an endpoint that is not named");
    lists(&datapath, &["203.0.113.0/24", "172.17.0.3"]);
    assert!(distant.ask().is_err(), "its network is named no more");
    assert!(!asks(&far));
    near.ask().expect("its network is named still");
    ask(&neighbour).expect("it is named now");
    let told = datapath.cli(&["explain", "tcp", "198.51.100.7", "203.0.113.2:8080"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("not-allowed"), "{told}");
    assert!(port(&datapath, "refused").as_u64().unwrap() >= 2);

    // What is in force needs no service, and the next one finds it.
    datapath.kill();
    assert!(!asks(&far));
    near.ask().expect("nothing has changed");
    datapath.restart();
    let allow = ["172.17.0.3/32", "203.0.113.0/24"];
    assert_eq!(port(&datapath, "allow"), Value::from(allow.to_vec()));
    assert!(!asks(&far));
    near.ask().expect("nothing has changed");

    lists(&datapath, &["198.51.100.0/24"]);
    assert!(near.ask().is_err() && !asks(&lab.lan));
    lists(&datapath, &["everybody"]);
    ask(&lab.lan).unwrap();
    ask(&far).unwrap();
    assert_eq!(port(&datapath, "allow"), Value::Null);
}

#[test]
fn a_list_is_there_for_as_long_as_a_port_names_it() {
    let lab = Lab::new();
    lab.add_ipv6();
    let far = lab.add_far();
    talk::serve(&lab.container, "0.0.0.0:80");
    let datapath = Datapath::start(&lab, "");
    let (lists, near) = (Tables::new(datapath.pins()), "203.0.113.0/24");
    let lists = lists.allowed::<V4>().unwrap();
    let succeeds = |arguments: &[&str]| {
        let output = datapath.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        lists.iter().count()
    };
    for port in ["8080:80", "8081:80"] {
        let entries = succeeds(&["publish", port, "--to", "172.17.0.2", "--allow", near]);
        assert_eq!(entries, 1, "one list for both");
    }
    assert_eq!(succeeds(&["unpublish", "8080"]), 1);
    Talk::open(&lab.lan, "203.0.113.2:8081").unwrap();
    assert!(!connects(&far, "203.0.113.2:8081"));
    assert_eq!(
        succeeds(&["allow", "8081", "198.51.100.0/24", "192.0.2.0/24"]),
        2
    );
    Talk::open(&far, "203.0.113.2:8081").unwrap();
    assert!(!connects(&lab.lan, "203.0.113.2:8081"));
    assert_eq!(succeeds(&["unpublish", "8081"]), 0);
}

#[test]
fn both_families_and_both_protocols_from_the_file() {
    const CONFIG: &str = r#"
[[publish]]
listen = "0.0.0.0:7000-7001"
to = "172.17.0.2:80-81"
allow = ["203.0.113.9"]
[[publish]]
listen = "[::]:7000-7001"
to = "[fd00:17::2]:80-81"
allow = ["2001:db8:7::/64"]
[[publish]]
listen = "0.0.0.0:7000"
to = "172.17.0.2:53"
protocol = "udp"
allow = ["198.51.100.0/24", "2001:db8::/32"]
"#;
    let lab = Lab::new();
    lab.add_ipv6();
    let far = lab.add_far();
    tcp_echo(&lab.container, "[::]:80");
    tcp_echo(&lab.container, "[::]:81");
    udp_echo(&lab.container, "0.0.0.0:53");
    let _datapath = Datapath::start(&lab, CONFIG);
    let tcp = |from: &Netns, to: &str| tcp_exchange(from, to, b"x".to_vec()).is_ok();
    for port in [7000, 7001] {
        assert!(tcp(&lab.lan, &format!("203.0.113.2:{port}")));
        assert!(!connects(&far, &format!("203.0.113.2:{port}")));
        assert!(!connects(&lab.lan, &format!("[2001:db8::2]:{port}")));
        assert!(tcp(&far, &format!("[2001:db8::2]:{port}")));
    }
    assert!(udp_exchange(&far, "203.0.113.2:7000", "x").is_ok());
    assert!(udp_exchange(&lab.lan, "203.0.113.2:7000", "x").is_err());
}

/// Over both families and between them, of both protocols, from outside and from a neighbour: each is asked again.
#[test]
fn a_change_ends_open_flows_of_every_kind() {
    let lab = Lab::new();
    lab.add_ipv6();
    let (addresses, gateways) = (
        ["172.17.0.3/16", "fd00:17::3/64"],
        ["172.17.0.1", "fd00:17::1"],
    );
    let neighbour = lab.add_container("n", "docker0", &addresses, &gateways);
    talk::serve(&lab.container, "[::]:80");
    udp_echo(&lab.container, "[::]:53");
    let datapath = Datapath::start(&lab, "");
    let cli = |arguments: &[&str]| drop(run(&mut datapath.command(arguments)));
    // The last of them leads IPv6 clients to the container's IPv4 address.
    let ports = [
        ("8080", "203.0.113.2", "172.17.0.2"),
        ("[::]:8080", "[2001:db8::2]", "fd00:17::2"),
        ("[::]:8081", "[2001:db8::2]", "172.17.0.2"),
    ];
    let lists = |four: &'static str, six: &'static str| {
        move |port: &str| if port.starts_with('[') { six } else { four }
    };
    let everybody = lists("0.0.0.0/0", "::/0");
    for (port, _, to) in ports {
        for place in [format!("{port}:80"), format!("{port}:53/udp")] {
            cli(&["publish", &place, "--to", to, "--allow", everybody(port)]);
        }
    }
    let mut talks = Vec::new();
    let mut sockets = Vec::new();
    for (port, host, _) in ports {
        let number = port.trim_start_matches("[::]:");
        for from in [&lab.lan, &neighbour] {
            let to = format!("{host}:{number}");
            talks.push(Talk::open(from, &to).expect(port));
            let socket = from.enter(|| {
                let any = if host.starts_with('[') {
                    "[::]:0"
                } else {
                    "0.0.0.0:0"
                };
                let socket = UdpSocket::bind(any).expect("a port");
                socket.connect(&to).expect("an address");
                socket
                    .set_read_timeout(Some(Duration::from_secs(3)))
                    .expect("a timeout");
                socket
            });
            answers(&socket).expect(port);
            sockets.push(socket);
        }
    }
    let nobody_here = lists("198.51.100.7", "2001:db8:7::7");
    for (port, ..) in ports {
        for place in [port.to_owned(), format!("{port}/udp")] {
            cli(&["allow", &place, nobody_here(port)]);
        }
    }
    let left = |nat: &str| {
        let flows = run(&mut datapath.command(&["flows", "--nat", nat])).stdout;
        String::from_utf8_lossy(&flows).into_owned()
    };
    for nat in ["published", "hairpin"] {
        assert_eq!(left(nat), "");
    }
    // Each waits for an answer in vain.
    let asked = talks
        .into_iter()
        .map(|mut talk| thread::spawn(move || talk.ask().is_ok()));
    let sent = sockets
        .into_iter()
        .map(|socket| thread::spawn(move || answers(&socket).is_ok()));
    let asked: Vec<_> = asked.chain(sent).collect();
    let answered: Vec<_> = asked
        .into_iter()
        .map(|asked| asked.join().expect("the asker"))
        .collect();
    assert_eq!(answered, [false; 12]);
    ask_the_host(&lab);
}

/// Sends a datagram on a connected socket, and waits for the answer.
fn answers(socket: &UdpSocket) -> std::io::Result<usize> {
    socket.send(b"x")?;
    socket.recv(&mut [0; 100])
}

/// The host's own processes may always ask.
fn ask_the_host(lab: &Lab) {
    for to in ["127.0.0.1:8080", "[::1]:8080", "[::1]:8081"] {
        Talk::open(&lab.host, to).expect(to);
    }
}

/// A flow that is answered for the first time while the others are ended moves from the half-open ones to those that are
/// established: it is none that may stay.
#[test]
fn none_escapes_that_is_answered_at_that_moment() {
    const DELAY: Duration = Duration::from_millis(100);
    let lab = Lab::new();
    let config = "[conntrack]\ngc_interval = \"1h\"\n";
    let datapath = Datapath::start(&lab, config);
    // Many others, so that looking through them takes a while.
    fill(&datapath, 100_000, 7);
    answer_late(&lab.container, "172.17.0.2:80", DELAY);
    let publish = ["publish", "8080:80/udp", "--to", "172.17.0.2"];
    run(datapath
        .command(&publish)
        .args(["--allow", "203.0.113.0/24"]));
    let published = || {
        let flows = run(&mut datapath.command(&["flows", "--nat", "published"])).stdout;
        let flows = String::from_utf8_lossy(&flows).into_owned();
        flows.matches("src=203.0.113.9 dst=203.0.113.2").count()
    };

    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        // A flow each: the ports are not given back before the end.
        let asking = scope.spawn(|| {
            lab.lan.enter(|| {
                let mut sockets = Vec::new();
                while !ended.load(Ordering::Relaxed) && sockets.len() < 10_000 {
                    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
                    drop(socket.send_to(b"x", "203.0.113.2:8080"));
                    sockets.push(socket);
                    thread::sleep(Duration::from_millis(1));
                }
            });
        });
        wait_until("flows of all ages", || published() > 100);
        run(&mut datapath.command(&["allow", "8080/udp", "198.51.100.0/24"]));
        // Whatever was asked before has its answer by now.
        thread::sleep(2 * DELAY);
        let left = published();
        ended.store(true, Ordering::Relaxed);
        asking.join().expect("who asked");
        assert_eq!(left, 0, "flows that nobody may have");
    });
    assert_eq!(published(), 0);
}

/// A server that answers every datagram after a while.
fn answer_late(netns: &Netns, addr: &'static str, delay: Duration) {
    let socket = netns.enter(move || UdpSocket::bind(addr).expect("the server's port"));
    let answers = socket.try_clone().expect("the socket");
    let (asked, due) = mpsc::channel::<(Instant, SocketAddr)>();
    thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
            if asked.send((Instant::now() + delay, from)).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (when, from) in due {
            thread::sleep(when.saturating_duration_since(Instant::now()));
            drop(answers.send_to(b"y", from));
        }
    });
}

/// Each names the field, the value and the remedy, and changes nothing.
#[test]
fn lists_that_make_no_sense() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "");
    let publish = |listen: &'static str, allow: &'static str| {
        vec!["publish", listen, "--to", "172.17.0.2", "--allow", allow]
    };
    assert!(
        datapath
            .cli(&publish("8080:80", "10.0.0.0/8"))
            .status
            .success()
    );
    for (arguments, status, parts) in [
        (
            publish("81:81", "203.0.113.0/24,nobody"),
            2,
            ["'nobody' for '--allow", "ADDRESS/PREFIX"],
        ),
        (
            publish("81:81", "203.0.113.1/24"),
            2,
            ["203.0.113.1/24", "write \"203.0.113.0/24\""],
        ),
        (
            publish("81:81", "2001:db8::/32"),
            1,
            ["2001:db8::/32", "IPv4"],
        ),
        (
            vec!["allow", "8080", "10.0.0.0/33"],
            2,
            ["10.0.0.0/33", "ADDRESS/PREFIX"],
        ),
        (vec!["allow", "8080", "fd00::/8"], 1, ["fd00::/8", "IPv4"]),
        (
            vec!["allow", "9999", "10.0.0.0/8"],
            1,
            ["0.0.0.0:9999/tcp", "not published"],
        ),
    ] {
        let output = datapath.cli(&arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        for part in parts {
            assert!(
                said(&output).contains(part),
                "{arguments:?}: {}",
                said(&output)
            );
        }
        if status == 1 {
            assert_eq!(said(&output).lines().count(), 1);
        }
    }
    assert_eq!(port(&datapath, "allow"), Value::from(vec!["10.0.0.0/8"]));
    assert_eq!(port(&datapath, "port"), 8080);
    let named = datapath.cli(&["allow", "8080"]);
    assert_eq!(named.status.code(), Some(2), "a list has to be named");
}
