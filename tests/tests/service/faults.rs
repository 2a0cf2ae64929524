//! What is cut short and what overflows: calls of a change and of a start, messages of the kernel's, places in maps.

use std::{fs, io::Write as _, process::Stdio, time::Instant};

use datapath_common::binding::MAX_BINDINGS;
use datapath_tests::{
    faults::{calls_of_a_start, kill_at, kill_start_at, start_refused_from},
    lab::{Datapath, Lab, load, run},
};
use serde_json::Value;

use crate::{
    healed, reaches, refused,
    talk::{self, Talk},
};

#[test]
fn killed_at_calls_of_a_change() {
    // Before anything was done, in the middle, and before the last step.
    let killed = kill_at("bpf", [1, 5, 9].into_iter());
    assert!(killed >= 2, "only {killed} of the calls were reached");
}

/// How a call to load a program of ours begins to differ from those that try the kernel out.
const OURS: [&str; 4] = [
    "prog_name=\"uplink_",
    "prog_name=\"bridge_",
    "prog_name=\"veth_",
    "prog_name=\"host_",
];

/// The first of the calls that has one of these words.
fn first(calls: &[String], words: &[&str]) -> usize {
    let is_it = |call: &String| words.iter().any(|word| call.contains(word));
    1 + calls.iter().position(is_it).expect("such a call")
}

#[test]
fn killed_at_calls_of_a_start() {
    let killed = kill_start_at(|calls| {
        let programs = first(calls, &OURS);
        assert!(20 < programs, "{programs}");
        let links = programs + first(&calls[programs..], &["BPF_LINK_CREATE", "BPF_LINK_UPDATE"]);
        // While the maps are made, while the programs are loaded, and while they are attached.
        vec![20, programs, links]
    });
    assert!(killed >= 4, "only {killed} of the calls were reached");
}

#[test]
fn programs_that_the_kernel_refuses_leave_nothing() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    datapath.kill();
    assert!(datapath.cli(&["detach"]).status.success());
    // A start asks about every program that the machine has: where others came or went since the calls were counted,
    // the nth is another one.
    let mut tries = 0;
    let output = loop {
        let calls = calls_of_a_start(&datapath);
        assert!(datapath.cli(&["detach"]).status.success());
        let output = start_refused_from(&datapath, first(&calls, &OURS));
        tries += 1;
        if tries == 10 || String::from_utf8_lossy(&output.stderr).contains("refused program") {
            break output;
        }
        assert!(datapath.cli(&["detach"]).status.success());
    };
    refused(&output, &["the kernel refused program"]);
    let maps = fs::read_dir(datapath.maps()).into_iter().flatten();
    assert_eq!(maps.count(), 0, "maps are left");
    datapath.restart();
    assert!(reaches(&lab));
}

#[test]
fn lost_messages_of_the_kernel_are_made_up_for() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    assert!(reaches(&lab));
    datapath.frozen(|| {
        // More than a socket has room for while nobody reads it.
        let mut batch = lab
            .host
            .command("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = String::from("link add flood0 type bridge\n");
        for number in 0..2000 {
            lines.push_str(&format!("link set flood0 mtu {}\n", 1000 + number % 500));
        }
        lines.push_str("link del flood0\n");
        let mut stdin = batch.stdin.take().unwrap();
        stdin.write_all(lines.as_bytes()).unwrap();
        drop(stdin);
        assert!(batch.wait().unwrap().success());
        lab.host.ip("addr add 203.0.113.3/24 dev eth0");
        assert!(drops(&lab) > 0, "nothing was lost");
    });
    healed("the address that was not told", || {
        Talk::open(&lab.lan, "203.0.113.3:8080").is_ok()
    });
    // And the next change is heard of again.
    lab.host.ip("addr add 203.0.113.4/24 dev eth0");
    healed("the next address", || {
        Talk::open(&lab.lan, "203.0.113.4:8080").is_ok()
    });
    assert!(datapath.cli(&["status"]).status.success());
}

/// How many messages the kernel could not give to sockets in the host's namespace.
fn drops(lab: &Lab) -> u64 {
    let shown = run(lab.host.command("cat").arg("/proc/self/net/netlink")).stdout;
    String::from_utf8_lossy(&shown)
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(8)?.parse::<u64>().ok())
        .sum()
}

#[test]
fn a_full_map_refuses_and_keeps_what_it_has() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let count = || {
        let ports = datapath.cli(&["ports", "--json"]).stdout;
        let ports: Value = serde_json::from_slice(&ports).unwrap();
        ports["ports"].as_array().unwrap().len()
    };
    // All that there is room for, beside the two of the file.
    let last = 10_000 + MAX_BINDINGS - 2 - 1;
    let all = format!("10000-{last}:10000-{last}");
    let start = Instant::now();
    let published = datapath.cli(&["publish", &all, "--to", "172.17.0.2"]);
    assert!(published.status.success(), "{published:?}");
    println!("{MAX_BINDINGS} ports: {:?}", start.elapsed());
    assert_eq!(count(), MAX_BINDINGS as usize);
    let more = datapath.cli(&["publish", "9000-9004:80-84", "--to", "172.17.0.2"]);
    let said = String::from_utf8_lossy(&more.stderr).into_owned();
    assert_eq!(more.status.code(), Some(1), "{said}");
    assert!(said.contains("full"), "{said}");
    assert_eq!(count(), MAX_BINDINGS as usize, "some of it was done");
    assert!(reaches(&lab));
    // Once there is room it works.
    let fewer = datapath.cli(&["unpublish", "10000-10009"]);
    assert!(fewer.status.success(), "{fewer:?}");
    let published = datapath.cli(&["publish", "9000-9004:80-84", "--to", "172.17.0.2"]);
    assert!(published.status.success(), "{published:?}");
    assert!(Talk::open(&lab.lan, "203.0.113.2:9000").is_ok());
}
