//! Containers that ask for a published port at an address of the host.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use datapath_tests::lab::{
    Datapath, Lab, Netns, PATIENCE, run, tcp_echo, tcp_exchange, udp_echo, wait_until,
};

const CONFIG: &str = r#"
[[network]]
bridge = "br1"
subnets = ["172.18.0.0/16"]
[[network]]
bridge = "br2"
subnets = ["172.19.0.0/16"]
internal = true
[[publish]]
listen = "0.0.0.0:8080"
to = "172.17.0.2:80"
protocol = "tcp"
[[publish]]
listen = "0.0.0.0:5353"
to = "172.17.0.2:53"
protocol = "udp"
[[publish]]
listen = "127.0.0.1:9000"
to = "172.17.0.2:80"
protocol = "tcp"
[[publish]]
listen = "203.0.113.2:9001"
to = "172.17.0.2:80"
protocol = "tcp"
"#;

struct Networks {
    lab: Lab,
    neighbour: Netns,
    other: Netns,
    internal: Netns,
    _datapath: Datapath,
}

fn networks() -> Networks {
    let lab = Lab::new();
    lab.add_bridge("br1", &["172.18.0.1/16"]);
    lab.add_bridge("br2", &["172.19.0.1/16"]);
    let neighbour = lab.add_container("n", "docker0", &["172.17.0.3/16"], &["172.17.0.1"]);
    let other = lab.add_container("o", "br1", &["172.18.0.2/16"], &["172.18.0.1"]);
    let internal = lab.add_container("i", "br2", &["172.19.0.2/16"], &["172.19.0.1"]);
    tcp_echo(&lab.container, "172.17.0.2:80");
    udp_echo(&lab.container, "172.17.0.2:53");
    let _datapath = Datapath::start(&lab, CONFIG);
    Networks {
        lab,
        neighbour,
        other,
        internal,
        _datapath,
    }
}

fn reaches(from: &Netns, to: &str) -> bool {
    tcp_exchange(from, to, b"hello".to_vec()).is_ok_and(|answer| answer == b"hello")
}

#[test]
fn a_neighbour_another_network_and_the_container_itself() {
    let networks = networks();
    for (name, from) in [
        ("itself", &networks.lab.container),
        ("neighbour", &networks.neighbour),
        ("other network", &networks.other),
    ] {
        for to in ["203.0.113.2:8080", "172.17.0.1:8080", "203.0.113.2:9001"] {
            assert!(reaches(from, to), "{name} to {to}");
        }
        for to in ["172.17.0.1:9001", "172.17.0.1:9000", "203.0.113.2:9000"] {
            assert!(!reaches(from, to), "{name} to {to}");
        }
    }
    assert!(reaches(&networks.other, "172.18.0.1:8080"));
    for to in ["203.0.113.2:8080", "172.19.0.1:8080"] {
        assert!(!reaches(&networks.internal, to), "internal to {to}");
    }
    assert!(!reaches(&networks.other, "172.17.0.2:80"), "past the ports");
}

#[test]
fn long_streams_both_ways() {
    let networks = networks();
    let payload: Vec<u8> = (0..1_048_576u32).map(|n| (n % 251) as u8).collect();
    for from in [
        &networks.lab.container,
        &networks.neighbour,
        &networks.other,
    ] {
        let answer = tcp_exchange(from, "203.0.113.2:8080", payload.clone()).unwrap();
        assert!(answer == payload);
    }
}

/// A known flow's packets pass the bridge by, as trains of segments too, and every byte arrives.
#[test]
fn a_hundred_megabytes_past_the_bridge() {
    const MEGABYTE: usize = 1 << 20;
    let networks = networks();
    for container in [&networks.lab.container, &networks.neighbour] {
        // So the host knows where both are.
        run(container.command("ping").args(["-c1", "-W2", "172.17.0.1"]));
    }
    let exchange = |megabytes: usize| {
        let payload: Vec<u8> = (0..megabytes * MEGABYTE / 4)
            .flat_map(|n| (n as u32).wrapping_mul(2_654_435_761).to_ne_bytes())
            .collect();
        let before = by_the_bridge(&networks.lab.host);
        let answer = tcp_exchange(&networks.neighbour, "203.0.113.2:8080", payload.clone());
        assert!(answer.unwrap() == payload, "{megabytes} MB");
        by_the_bridge(&networks.lab.host) - before
    };
    wait_until("the way past the bridge", || exchange(1) < MEGABYTE / 8);
    let seen = exchange(100);
    println!("{seen} bytes of 200 MB went by the bridge");
    assert!(seen < 10 * MEGABYTE, "{seen} bytes went by the bridge");
}

/// Bytes that the bridge has handed to the host.
fn by_the_bridge(host: &Netns) -> usize {
    let shown = run(host
        .command("ip")
        .args(["-j", "-s", "link", "show", "docker0"]));
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    shown[0]["stats64"]["rx"]["bytes"].as_u64().unwrap() as usize
}

#[test]
fn datagrams_answered_from_the_address_that_was_asked() {
    let networks = networks();
    for from in [
        &networks.lab.container,
        &networks.neighbour,
        &networks.other,
    ] {
        from.enter(|| {
            for addr in ["203.0.113.2:5353", "172.17.0.1:5353"] {
                let addr: SocketAddr = addr.parse().unwrap();
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.send_to(b"hello", addr).unwrap();
                let mut buffer = [0; 100];
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                assert_eq!(from, addr);
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                // The container sees the host, not a neighbour.
                assert!(text.starts_with(&addr.ip().to_string()), "{text}");
            }
        });
    }
}

/// Datagrams longer than the link takes: two fragments each way.
#[test]
fn fragmented_datagrams() {
    let networks = networks();
    networks.neighbour.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(&[7; 2000], "203.0.113.2:5353").unwrap();
        let mut buffer = [0; 4096];
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        assert!(buffer[..length].ends_with(&[7; 2000]), "{length} bytes");
    });
}

/// Nobody listens behind the port: the container says so, and whoever asked gets to know.
#[test]
fn an_icmp_error_comes_back_to_whoever_asked() {
    let lab = Lab::new();
    let neighbour = lab.add_container("n", "docker0", &["172.17.0.3/16"], &["172.17.0.1"]);
    let _datapath = Datapath::start(
        &lab,
        "[[publish]]\nlisten = \"0.0.0.0:5353\"\nto = \"172.17.0.2:53\"\nprotocol = \"udp\"\n",
    );
    neighbour.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect("203.0.113.2:5353").unwrap();
        socket.send(b"hello").unwrap();
        let refused = socket.recv(&mut [0; 100]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
}

/// The host's own services are not ours to give or to refuse.
#[test]
fn the_hosts_own_services_answer_as_before() {
    let networks = networks();
    tcp_echo(&networks.lab.host, "0.0.0.0:2222");
    for (from, gateway) in [
        (&networks.lab.container, "172.17.0.1"),
        (&networks.other, "172.18.0.1"),
        (&networks.internal, "172.19.0.1"),
    ] {
        assert!(reaches(from, &format!("{gateway}:2222")));
        run(from.command("ping").args(["-c1", "-W2", gateway]));
    }
    run(networks
        .lab
        .host
        .command("ping")
        .args(["-c1", "-W2", "172.17.0.2"]));
}
