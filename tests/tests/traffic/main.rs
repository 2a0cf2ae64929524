//! Real traffic through the real program: masquerade and published ports, with nothing in netfilter.

#![expect(clippy::disallowed_methods, reason = "tests wait in real time")]

mod clashes;
mod collisions;
mod disguises;
mod families;
mod icmp;
mod link_local;
mod nat64;
mod scan;
mod stun;
mod uplinks;

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use datapath_tests::lab::{
    Datapath, Lab, run, tcp_echo, tcp_exchange, udp_echo, udp_exchange, wait_until,
};

const PORTS: &str = r#"
[[publish]]
listen = "0.0.0.0:8080"
to = "172.17.0.2:80"
protocol = "tcp"
[[publish]]
listen = "203.0.113.2:5300-5309"
to = "172.17.0.2:5300-5309"
protocol = "udp"
"#;

#[test]
fn published_ports_answer_and_the_client_keeps_its_address() {
    let lab = Lab::new();
    let _datapath = Datapath::start(&lab, PORTS);
    tcp_echo(&lab.container, "0.0.0.0:80");
    udp_echo(&lab.container, "0.0.0.0:5307");
    for length in [1, 1_000, 1_461, 65_536, 1_048_576] {
        let payload: Vec<u8> = (0..length).map(|byte| (byte % 251) as u8).collect();
        let answer = tcp_exchange(&lab.lan, "203.0.113.2:8080", payload.clone()).unwrap();
        assert!(
            answer == payload,
            "{length} bytes came back as {}",
            answer.len()
        );
    }
    let answer = udp_exchange(&lab.lan, "203.0.113.2:5307", "who am I").unwrap();
    assert!(
        answer.starts_with("203.0.113.9:") && answer.ends_with(" who am I"),
        "{answer}"
    );
}

#[test]
fn containers_show_the_hosts_address_outside() {
    let lab = Lab::new();
    let _datapath = Datapath::start(&lab, "");
    tcp_echo(&lab.lan, "0.0.0.0:8000");
    udp_echo(&lab.lan, "0.0.0.0:5353");
    let mut capture = lab
        .lan
        .command("tcpdump")
        .args(["-Ulni", "eth0", "ip"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(capture.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "tcpdump ended");
    }
    let answer = udp_exchange(&lab.container, "203.0.113.9:5353", "x").unwrap();
    assert!(answer.starts_with("203.0.113.2:"), "{answer}");
    let payload = vec![7; 1 << 20];
    let answer = tcp_exchange(&lab.container, "203.0.113.9:8000", payload.clone()).unwrap();
    assert!(answer == payload);
    run(lab
        .container
        .command("ping")
        .args(["-c3", "-i0.1", "-W2", "203.0.113.9"]));
    run(Command::new("kill").arg(capture.id().to_string()));
    let seen = capture.wait_with_output().unwrap().stdout;
    let seen = String::from_utf8_lossy(&seen);
    for expected in [
        "203.0.113.2 > 203.0.113.9: ICMP echo request",
        "203.0.113.9.5353:",
    ] {
        assert!(seen.contains(expected), "not seen: {expected}");
    }
    let leaked: Vec<_> = seen
        .lines()
        .filter(|line| line.contains("172.17."))
        .collect();
    assert!(leaked.is_empty(), "leaked: {leaked:?}");
}

#[test]
fn a_thousand_connections_each_way() {
    let lab = Lab::new();
    let _datapath = Datapath::start(&lab, PORTS);
    tcp_echo(&lab.container, "0.0.0.0:80");
    tcp_echo(&lab.lan, "0.0.0.0:8000");
    for number in 0..1_000u32 {
        let payload = number.to_be_bytes().to_vec();
        let inward = tcp_exchange(&lab.lan, "203.0.113.2:8080", payload.clone());
        assert_eq!(inward.unwrap(), payload);
        let outward = tcp_exchange(&lab.container, "203.0.113.9:8000", payload.clone());
        assert_eq!(outward.unwrap(), payload);
    }
}

#[test]
fn publishing_takes_effect_at_once_and_so_does_withdrawing() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "");
    tcp_echo(&lab.container, "0.0.0.0:80");
    assert!(tcp_exchange(&lab.lan, "203.0.113.2:9000", vec![1]).is_err());
    assert!(
        datapath
            .cli(&["publish", "9000:80", "--to", "172.17.0.2"])
            .status
            .success()
    );
    assert_eq!(
        tcp_exchange(&lab.lan, "203.0.113.2:9000", vec![1]).unwrap(),
        [1]
    );
    let again = datapath.cli(&["publish", "9000:81", "--to", "172.17.0.2"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(datapath.cli(&["unpublish", "9000"]).status.success());
    assert!(tcp_exchange(&lab.lan, "203.0.113.2:9000", vec![1]).is_err());
}

#[test]
fn ten_thousand_ports_in_one_request() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "");
    let start = Instant::now();
    let published = datapath.cli(&["publish", "10000-19999:10000-19999", "--to", "172.17.0.2"]);
    assert!(published.status.success(), "{published:?}");
    tcp_echo(&lab.container, "0.0.0.0:15555");
    assert_eq!(
        tcp_exchange(&lab.lan, "203.0.113.2:15555", vec![5]).unwrap(),
        [5]
    );
    assert!(datapath.cli(&["unpublish", "10000-19999"]).status.success());
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn traffic_goes_on_without_the_service_and_the_next_one_adopts_it() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, PORTS);
    tcp_echo(&lab.container, "0.0.0.0:80");
    assert!(
        datapath
            .cli(&["publish", "9000:80", "--to", "172.17.0.2"])
            .status
            .success()
    );
    datapath.kill();
    for port in ["8080", "9000"] {
        let to = format!("203.0.113.2:{port}");
        assert_eq!(
            tcp_exchange(&lab.lan, &to, vec![1]).unwrap(),
            [1],
            "without service"
        );
    }
    datapath.restart();
    assert_eq!(
        tcp_exchange(&lab.lan, "203.0.113.2:9000", vec![1]).unwrap(),
        [1],
        "adopted"
    );
}

#[test]
fn detaching_leaves_nothing() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, PORTS);
    assert_eq!(lab.host.classifiers("eth0").len(), 2);
    let pins = datapath.pins().to_owned();
    drop(datapath);
    assert!(!pins.exists());
    wait_until("no program on the uplink", || {
        lab.host.classifiers("eth0").is_empty()
    });
}

#[test]
fn an_unpublished_port_is_not_reachable_by_routing_to_the_container() {
    let lab = Lab::new();
    let _datapath = Datapath::start(&lab, PORTS);
    tcp_echo(&lab.container, "0.0.0.0:80");
    lab.lan.ip("route add 172.17.0.0/16 via 203.0.113.2");
    assert!(tcp_exchange(&lab.lan, "172.17.0.2:80", vec![1]).is_err());
}

#[test]
fn bad_input_is_one_line_and_the_right_status() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "");
    let usage = datapath.cli(&["publish", "99999:80", "--to", "172.17.0.2"]);
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
    let missing = datapath.cli(&["unpublish", "4711"]);
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    let text = String::from_utf8_lossy(&missing.stderr);
    assert!(text.lines().count() == 1 && text.contains("4711"), "{text}");
}
