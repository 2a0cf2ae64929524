//! `datapath monitor`: drops with their reasons, as they happen.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::UdpSocket,
    process::{Child, Command, Stdio},
    time::Instant,
};

use datapath_common::event::RATE;
use datapath_tests::lab::{Datapath, Lab, run, wait_until};
use datapath_user::kernel::tables::Tables;
use serde_json::Value;

fn monitor(datapath: &Datapath, arguments: &[&str]) -> Child {
    let child = datapath
        .command(&[&["monitor"], arguments].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("somebody listens", || is_heard(datapath));
    child
}

fn is_heard(datapath: &Datapath) -> bool {
    let (_, monitor, _) = Tables::new(datapath.pins()).events().unwrap();
    monitor.get(&0, 0).unwrap().until > 0
}

/// Datagrams to a port of the container that was not published: dropped.
fn knock(lab: &Lab, port: u16, count: u32) {
    lab.lan.enter(move || {
        let socket = UdpSocket::bind("203.0.113.9:4711").unwrap();
        for _ in 0..count {
            socket.send_to(b"knock", ("172.17.0.2", port)).unwrap();
        }
    });
}

#[test]
fn a_drop_is_told_with_its_reason_and_whose_it_was() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "");
    lab.lan.ip("route add 172.17.0.0/16 via 203.0.113.2");
    assert!(!is_heard(&datapath));
    let child = monitor(&datapath, &["--json", "--port", "81", "-n", "1"]);
    let second = datapath.cli(&["monitor"]);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        said.contains(&format!(
            "another monitor runs on it (process {}",
            child.id()
        )),
        "{said}"
    );
    knock(&lab, 80, 1);
    knock(&lab, 81, 1);
    let output = child.wait_with_output().unwrap();
    let drop: Value = serde_json::from_slice(&output.stdout).expect("one object");
    for (field, value) in [
        ("reason", Value::from("unpublished")),
        ("interface", Value::from("eth0")),
        ("protocol", Value::from("udp")),
        ("src", Value::from("203.0.113.9")),
        ("dst", Value::from("172.17.0.2")),
        ("sport", Value::from(4711)),
        ("dport", Value::from(81)),
        ("length", Value::from(14 + 20 + 8 + 5)),
    ] {
        assert_eq!(drop[field], value, "{field} of {drop}");
    }
    assert!(!is_heard(&datapath), "nobody listens any more");
}

#[test]
fn a_flood_of_drops_is_counted_and_not_told() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "");
    lab.lan.ip("route add 172.17.0.0/16 via 203.0.113.2");
    // The neighbour is found before the flood: none of it is lost on the way.
    knock(&lab, 80, 1);
    let mut child = monitor(&datapath, &["--reason", "unpublished"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let start = Instant::now();
    knock(&lab, 80, 50_000);
    let seconds = start.elapsed().as_secs() + 2;
    run(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let told = lines.by_ref().map_while(Result::ok).count() as u64;
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(
        (1..=RATE * cpus * seconds).contains(&told),
        "{told} in {seconds} s"
    );
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    child.wait().unwrap();
    let suppressed: u64 = said
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert_eq!(told + suppressed, 50_000, "{said}");
    println!("{told} told, {suppressed} suppressed");
}
