//! Several uplinks, several addresses, and addresses that come and go.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use datapath_tests::lab::{
    Datapath, Lab, Netns, PATIENCE, run, tcp_echo, tcp_exchange, udp_echo, udp_exchange,
    udp_server, wait_until,
};

const PORTS: &str = r#"
[[publish]]
listen = "0.0.0.0:8080"
to = "172.17.0.2:80"
[[publish]]
listen = "203.0.113.3:9000"
to = "172.17.0.2:80"
"#;

/// Two uplinks: eth0 to the LAN host, eth1 to another provider.
fn two(config: &str) -> (Lab, Netns, Datapath) {
    let lab = Lab::new();
    let provider = lab.add_uplink();
    let datapath = Datapath::start_with(&lab, "uplinks = [\"eth0\", \"eth1\"]", config);
    (lab, provider, datapath)
}

/// How long an answer may take where it is asked again.
const SHORT: Duration = Duration::from_millis(200);

/// Asks from a container's port, and returns how it was seen.
fn seen(from: &Netns, port: u16, to: &'static str) -> Option<String> {
    asked(from, port, to, 1, PATIENCE).pop()
}

/// The same, where question or answer may be lost.
fn tried(from: &Netns, port: u16, to: &'static str) -> Option<String> {
    asked(from, port, to, 1, SHORT).pop()
}

/// Asks so many times by one socket, until there is no answer in time, and returns how it was seen each time.
fn asked(
    from: &Netns,
    port: u16,
    to: &'static str,
    times: usize,
    patience: Duration,
) -> Vec<String> {
    from.enter(move || {
        let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
        socket.set_read_timeout(Some(patience)).unwrap();
        socket.connect(to).unwrap();
        let ask = || {
            socket.send(b"x").unwrap();
            let mut buffer = [0; 100];
            let length = socket.recv(&mut buffer).ok()?;
            let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
            Some(answer.split_once(' ')?.0.to_owned())
        };
        (0..times).map_while(|_| ask()).collect()
    })
}

#[test]
fn each_uplink_shows_its_own_address() {
    let (lab, provider, _datapath) = two(PORTS);
    tcp_echo(&lab.container, "0.0.0.0:80");
    for netns in [&lab.lan, &provider] {
        udp_echo(netns, "0.0.0.0:5353");
        tcp_echo(netns, "0.0.0.0:8000");
    }
    for _ in 0..3 {
        for (to, shown) in [
            ("203.0.113.9:5353", "203.0.113.2:4000"),
            ("192.0.2.9:5353", "192.0.2.2:4000"),
        ] {
            assert_eq!(seen(&lab.container, 4000, to).as_deref(), Some(shown));
        }
    }
    let payload = vec![7; 1 << 18];
    for (from, to) in [
        (&lab.container, "203.0.113.9:8000"),
        (&lab.container, "192.0.2.9:8000"),
        (&lab.lan, "203.0.113.2:8080"),
        (&provider, "192.0.2.2:8080"),
    ] {
        let answer =
            tcp_exchange(from, to, payload.clone()).unwrap_or_else(|error| panic!("{to}: {error}"));
        assert!(answer == payload, "{to}: {} bytes", answer.len());
    }
}

/// By policy routing one container leaves by the one uplink, and its neighbour by the other, to the same address.
#[test]
fn policy_routing_chooses_the_uplink_and_so_the_address() {
    let (lab, provider, _datapath) = two("");
    let neighbour = lab.add_container("d", "docker0", &["172.17.0.3/16"], &["172.17.0.1"]);
    for netns in [&lab.lan, &provider] {
        netns.ip("addr add 198.51.100.7/32 dev lo");
        udp_echo(netns, "198.51.100.7:5353");
    }
    for route in [
        "route add default via 203.0.113.9",
        "route add default via 192.0.2.9 table 100",
        "rule add from 172.17.0.3 table 100",
    ] {
        lab.host.ip(route);
    }
    for round in 0..20 {
        for (from, shown) in [
            (&lab.container, "203.0.113.2:4000"),
            (&neighbour, "192.0.2.2:4000"),
        ] {
            let seen = seen(from, 4000, "198.51.100.7:5353");
            assert_eq!(seen.as_deref(), Some(shown), "round {round}");
        }
    }
    // The default route moves: what is under way takes the other uplink's address. Its port is the neighbour's there.
    for (gateway, shown) in [("192.0.2.9", "192.0.2.2:"), ("203.0.113.9", "203.0.113.2:")] {
        lab.host.ip(&format!("route replace default via {gateway}"));
        wait_until("the other way", || {
            let seen = tried(&lab.container, 4000, "198.51.100.7:5353");
            seen.is_some_and(|seen| seen.starts_with(shown))
        });
    }
}

/// Two default routes of equal cost: each flow keeps to its way, and to its address.
#[test]
fn two_default_routes() {
    let (lab, provider, datapath) = two("");
    for netns in [&lab.lan, &provider] {
        netns.ip("addr add 198.51.100.7/32 dev lo");
        udp_echo(netns, "198.51.100.7:5353");
    }
    run(lab
        .host
        .command("sysctl")
        .args(["-qw", "net.ipv4.fib_multipath_hash_policy=1"]));
    lab.host
        .ip("route add default nexthop via 203.0.113.9 nexthop via 192.0.2.9");
    // Past the stack all flows to one address would take one way.
    wait_until("the routes to be seen", || {
        let status = datapath.cli(&["status"]).stdout;
        String::from_utf8_lossy(&status).contains("several next hops")
    });
    let mut ways = [0; 2];
    for port in 4000..4040 {
        // By one socket: the kernel's choice may depend on it (`sk_txhash`), beside addresses and ports.
        let shown = asked(&lab.container, port, "198.51.100.7:5353", 5, PATIENCE);
        let way = ["203.0.113.2", "192.0.2.2"]
            .iter()
            .position(|addr| shown == vec![format!("{addr}:{port}"); 5])
            .unwrap_or_else(|| panic!("port {port} was seen as {shown:?}"));
        ways[way] += 1;
    }
    println!("{ways:?} flows by each");
    assert!(ways.iter().all(|flows| *flows > 0), "{ways:?}");
}

#[test]
fn an_address_that_goes_takes_its_flows_along_and_the_next_one_serves_at_once() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, PORTS);
    udp_echo(&lab.lan, "0.0.0.0:5353");
    tcp_echo(&lab.container, "0.0.0.0:80");
    for port in 4000..4050 {
        let shown = seen(&lab.container, port, "203.0.113.9:5353");
        assert_eq!(shown, Some(format!("203.0.113.2:{port}")));
    }
    lab.host.ip("addr del 203.0.113.2/24 dev eth0");
    lab.host.ip("addr add 203.0.113.4/24 dev eth0");
    let start = Instant::now();
    let mut old = 0;
    while start.elapsed() < PATIENCE {
        match tried(&lab.container, 4000, "203.0.113.9:5353") {
            Some(shown) if shown == "203.0.113.4:4000" => break,
            Some(_) => old += 1,
            None => {}
        }
    }
    let took = start.elapsed();
    println!("the new address after {took:?}, {old} datagrams from the old one");
    assert!(took < Duration::from_secs(3), "{took:?}");
    for port in 4000..4050 {
        let shown = seen(&lab.container, port, "203.0.113.9:5353");
        assert_eq!(shown, Some(format!("203.0.113.4:{port}")));
    }
    assert_eq!(
        tcp_exchange(&lab.lan, "203.0.113.4:8080", vec![1]).unwrap(),
        [1]
    );
    let flows = String::from_utf8(datapath.cli(&["flows"]).stdout).unwrap();
    assert!(!flows.contains("203.0.113.2"), "{flows}");
}

#[test]
fn a_second_address_serves_as_well_as_the_first() {
    let lab = Lab::new();
    lab.add_addresses("eth0", &["203.0.113.3/24"]);
    let _datapath = Datapath::start(&lab, PORTS);
    tcp_echo(&lab.container, "0.0.0.0:80");
    for (to, open) in [
        ("203.0.113.2:8080", true),
        ("203.0.113.3:8080", true),
        ("203.0.113.3:9000", true),
        ("203.0.113.2:9000", false),
    ] {
        let answer = tcp_exchange(&lab.lan, to, vec![1, 2, 3]);
        assert_eq!(answer.ok(), open.then(|| vec![1, 2, 3]), "{to}");
    }
    // It goes, and its port with it; the first one's connections go on.
    lab.host.ip("addr del 203.0.113.3/24 dev eth0");
    wait_until("the second to be gone", || {
        tcp_exchange(&lab.lan, "203.0.113.3:9000", vec![1]).is_err()
    });
    assert_eq!(
        tcp_exchange(&lab.lan, "203.0.113.2:8080", vec![1]).unwrap(),
        [1]
    );
}

/// Several networks, each with its own addresses: all of them out and in, and none to the other.
#[test]
fn several_networks() {
    let lab = Lab::new();
    lab.add_bridge("br-b", &["172.18.0.1/16"]);
    let other = lab.add_container("d", "br-b", &["172.18.0.2/16"], &["172.18.0.1"]);
    let _datapath = Datapath::start(
        &lab,
        r#"
[[network]]
bridge = "br-b"
subnets = ["172.18.0.0/16"]
[[publish]]
listen = "0.0.0.0:8081"
to = "172.18.0.2:80"
[[publish]]
listen = "0.0.0.0:8080"
to = "172.17.0.2:80"
"#,
    );
    udp_echo(&lab.lan, "0.0.0.0:5353");
    for (netns, port) in [(&lab.container, 8080), (&other, 8081)] {
        tcp_echo(netns, "0.0.0.0:80");
        udp_server(netns, "0.0.0.0:53", "reached");
        let shown = seen(netns, 4000, "203.0.113.9:5353").unwrap();
        assert!(shown.starts_with("203.0.113.2:"), "{shown}");
        let to = format!("203.0.113.2:{port}");
        assert_eq!(tcp_exchange(&lab.lan, &to, vec![1]).unwrap(), [1]);
    }
    for (from, to) in [(&lab.container, "172.18.0.2:53"), (&other, "172.17.0.2:53")] {
        assert!(udp_exchange(from, to, "x").is_err(), "{to}");
    }
}
