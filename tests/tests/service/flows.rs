//! `datapath flows`: what is listed, in whose words, and how it is ended.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use datapath_common::{
    conntrack::{Flow, tcp::State, timeouts::SECOND},
    family::{Addr4, V4},
    proto,
    settings::slots,
    tuple::{Direction, Endpoints, Tuple},
};
use datapath_tests::lab::{Datapath, Lab, run, udp_echo, udp_exchange};
use datapath_user::kernel::{life::Tier, tables::Tables};
use serde_json::Value;

use crate::talk::{self, Talk};

const PORTS: &str = r#"
[[publish]]
listen = "0.0.0.0:8080"
to = "172.17.0.2:80"
[[publish]]
listen = "203.0.113.2:9090"
to = "172.17.0.2:80"
"#;

fn list(datapath: &Datapath, filter: &[&str]) -> Vec<Value> {
    let output = datapath.cli(&[&["flows", "--json"], filter].concat());
    assert!(output.status.success(), "{filter:?}: {output:?}");
    let mut json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    serde_json::from_value(json["flows"].take()).expect("a list of flows")
}

/// Entries of both tiers, dead or alive.
fn entries(datapath: &Datapath) -> u64 {
    let tables = Tables::new(datapath.pins());
    [Tier::Established, Tier::Half]
        .map(|tier| tables.batched::<V4>(tier).unwrap().count().unwrap())
        .iter()
        .sum()
}

#[test]
fn flows_are_listed_filtered_and_flushed() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    udp_echo(&lab.lan, "0.0.0.0:5353");
    let mut first = Talk::open(&lab.lan, "203.0.113.2:8080").unwrap();
    let mut second = Talk::open(&lab.lan, "203.0.113.2:9090").unwrap();
    udp_exchange(&lab.container, "203.0.113.9:5353", "x").unwrap();
    run(lab
        .container
        .command("ping")
        .args(["-c1", "-W2", "203.0.113.9"]));

    let all = list(&datapath, &[]);
    assert_eq!(all.len(), 4, "{all:#?}");
    for (filter, count) in [
        (&["-p", "tcp"][..], 2),
        (&["--proto", "icmp"], 1),
        (&["--nat", "masquerade"], 2),
        (&["--binding", "8080"], 1),
        (&["--state", "ESTABLISHED", "--dport", "9090"], 1),
        (&["--src", "172.17.0.0/16"], 2),
        (&["--reply-src", "172.17.0.0/16"], 2),
        (&["--family", "ipv6"], 0),
        (&["--status", "unreplied"], 0),
    ] {
        assert_eq!(list(&datapath, filter).len(), count, "{filter:?}");
    }
    let flow = list(&datapath, &["--binding", "203.0.113.2:9090"]).remove(0);
    assert_eq!(flow["binding"], "203.0.113.2:9090/tcp");
    assert_eq!(flow["original"]["src"], "203.0.113.9");
    assert_eq!(flow["reply"]["src"], "172.17.0.2");
    assert!(flow["reply"]["packets"].as_u64() > Some(0), "{flow}");
    let text = datapath.cli(&["flows", "--dport", "8080"]).stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with("tcp      6 43"), "{text}");
    assert!(
        text.contains(" ESTABLISHED src=203.0.113.9 dst=203.0.113.2 sport="),
        "{text}"
    );
    assert!(text.ends_with(" [ASSURED]\n"), "{text}");

    let before = entries(&datapath);
    let flushed = datapath.cli(&["flows", "flush", "--binding", "8080"]);
    assert_eq!(
        String::from_utf8_lossy(&flushed.stdout),
        "flushed 1 flows\n"
    );
    assert_eq!(entries(&datapath), before - 2, "both entries of it");
    assert!(list(&datapath, &["--binding", "8080"]).is_empty());
    assert!(first.ask().is_err(), "a flushed connection cannot go on");
    second.ask().unwrap();
    assert!(datapath.cli(&["flows", "flush"]).status.success());
    assert_eq!(entries(&datapath), 0);
    Talk::open(&lab.lan, "203.0.113.2:8080").unwrap();
}

#[test]
fn wrong_filters_are_wrong_usage() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "");
    for arguments in [
        &["flows", "--port", "65536"][..],
        &["flows", "--src", "nobody"],
        &["flows", "flush", "--state", "HALF"],
    ] {
        let output = datapath.cli(arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

pub(crate) const MILLION: u32 = 1_000_000;
/// An optimised program takes two seconds or so; one with debug assertions on a busy machine is to pass too.
const LIMIT: Duration = Duration::from_secs(25);

/// Established connections, as the programs would have noted them.
pub(crate) fn fill(datapath: &Datapath, count: u32, address_generation: u32) {
    let tables = Tables::new(datapath.pins());
    let mut table = tables.tier::<V4>(Tier::Established).unwrap();
    let seen = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    let seen = u64::try_from(seen.tv_sec()).unwrap() * SECOND;
    for number in 0..count {
        let [_, a, b, c] = number.to_be_bytes();
        let original = Endpoints {
            src: Addr4([10, a, b, c]),
            dst: Addr4([203, 0, 113, 2]),
            sport: 40_000,
            dport: 8080,
        };
        let to = Endpoints {
            dst: Addr4([172, 17, 0, 2]),
            dport: 80,
            ..original
        };
        let flow = Flow {
            to,
            protocol: proto::TCP,
            state: State::Established as u8,
            flags: Flow::<V4>::ORIGINAL | Flow::<V4>::PUBLISHED | Flow::<V4>::ANSWERED,
            id: u64::from(number) + 1,
            last_seen: seen,
            created: seen.saturating_sub(SECOND),
            address: slots::ADDRESSES,
            address_generation,
            ..Flow::NONE
        };
        let reply = Flow {
            to: original.reversed(),
            flags: flow.flags & !Flow::<V4>::ORIGINAL,
            ..flow
        };
        let key = Tuple::new(&original, proto::TCP, Direction::ToEndpoint);
        table.insert(key, flow, 0).unwrap();
        table
            .insert(flow.partner(Direction::ToEndpoint), reply, 0)
            .unwrap();
    }
}

#[test]
fn a_million_flows_are_listed_and_flushed_in_seconds() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "[conntrack]\nmax_flows = 1048576\n");
    fill(&datapath, MILLION, 0);
    let timed = |arguments: &[&str]| {
        let start = Instant::now();
        let output = datapath.cli(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {:?}",
            output.stderr
        );
        let took = start.elapsed();
        println!("{arguments:?}: {took:?}");
        assert!(took < LIMIT, "{arguments:?}: {took:?}");
        output.stdout
    };
    let text = timed(&["flows"]);
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, MILLION as usize);
    assert!(!timed(&["flows", "--json"]).is_empty());
    let one = timed(&["flows", "--src", "10.1.2.3"]);
    assert_eq!(one.iter().filter(|byte| **byte == b'\n').count(), 1);

    let start = Instant::now();
    let mut listing = datapath.command(&["flows"]);
    let mut listing = listing
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A reader that leaves, as `head` does.
    drop(listing.stdout.take());
    let ended = listing.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(0), &b""[..]));
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );

    // On a terminal of its own, which shows how far it is: nothing at all where it takes a moment.
    let terminal = |arguments: &[&str]| {
        let command = datapath.command(arguments);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        let start = Instant::now();
        let output = std::process::Command::new("script")
            .args(["--quiet", "--return", "--command"])
            .arg(words.join(" "))
            .arg("/dev/null")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let took = start.elapsed();
        println!("{arguments:?}, on a terminal: {took:?}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), took)
    };
    let (shown, took) = terminal(&["flows", "flush", "--dport", "8080"]);
    assert!(shown.contains("flushed 1000000 flows"), "{shown}");
    let long = took > Duration::from_secs(2);
    assert!(!long || shown.contains("flows looked at"), "{shown}");
    let (shown, _) = terminal(&["flows", "flush"]);
    assert!(!shown.contains("looked at"), "{shown}");
    assert_eq!(entries(&datapath), 0);
}
