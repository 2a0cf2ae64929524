//! Programs attached by filters of clsact, as where the kernel has no TCX: on real traffic, through upgrades, taken off by
//! others, and gone without a trace.

use std::{fs, time::Duration};

use datapath_tests::lab::{
    Datapath, Lab, join,
    load::{self, Load, Plan},
    run, tcp_echo, tcp_exchange, udp_echo, udp_exchange, wait_for,
};

use crate::{
    PUBLISHED, healed, reaches,
    talk::{self, Talk},
};

const CLSACT: &str = "attach = \"clsact\"";

/// What `tc` shows of an interface's filters and queueing disciplines.
fn shown(lab: &Lab, interface: &str) -> String {
    let tc = |words: &str| {
        let mut command = lab.host.command("tc");
        let arguments = words.split(' ').chain(["dev", interface]);
        String::from_utf8_lossy(&run(command.args(arguments)).stdout).into_owned()
    };
    // Where there is no clsact, tc(8) is told so by the kernel and does not mind.
    let ingress = tc("filter show ingress").replace("filter", "ingress filter");
    let egress = tc("filter show egress").replace("filter", "egress filter");
    format!("{ingress}{egress}{}", tc("qdisc show"))
}

/// Both programs of an uplink, each once.
fn is_whole(lab: &Lab) -> bool {
    let shown = shown(lab, "eth0");
    ["uplink_ingress", "uplink_egress"].iter().all(|program| {
        let ours = format!("pref 25712 bpf chain 0 handle 0x1 {program} direct-action");
        shown.matches(&ours).count() == 1
    })
}

#[test]
fn everything_works_and_goes_without_a_trace() {
    let lab = Lab::new();
    lab.add_ipv6();
    let datapath = Datapath::start_with(&lab, CLSACT, datapath_tests::lab::PORTS);
    tcp_echo(&lab.container, "[::]:80");
    udp_echo(&lab.container, "[::]:53");
    assert_eq!(lab.host.classifiers("eth0"), [""; 0], "TCX is not used");
    let status = datapath.cli(&["status"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    for line in [
        "bridge_ingress on docker0 (tc ingress)",
        "uplink_egress on eth0 (tc egress)",
        "uplink_ingress on eth0 (tc ingress)",
    ] {
        assert!(said.contains(line), "no {line}: {said}");
    }
    let payload: Vec<u8> = (0..300_000).map(|byte| (byte % 251) as u8).collect();
    for host in ["203.0.113.2", "[2001:db8::2]"] {
        // Twice: the second flow knows its way past the stack.
        for _ in 0..2 {
            let answer = tcp_exchange(&lab.lan, &format!("{host}:8080"), payload.clone());
            assert!(answer.unwrap() == payload, "{host}");
            let answer = udp_exchange(&lab.lan, &format!("{host}:5300"), "hello").unwrap();
            assert!(answer.ends_with(" hello"), "{host}: {answer}");
        }
    }
    // Outward, as one that hides behind the host's address.
    tcp_echo(&lab.lan, "0.0.0.0:7");
    let answer = tcp_exchange(&lab.container, "203.0.113.9:7", payload.clone());
    assert!(answer.unwrap() == payload);
    // Elsewhere these interfaces are others.
    let elsewhere = Lab::new();
    let detach = datapath.command(&["detach"]);
    let mut there = elsewhere.host.command("env");
    there.args(detach.get_args().skip(1));
    let output = there.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("another network namespace"), "{said}");
    assert!(is_whole(&lab));
    let detached = datapath.cli(&["detach"]);
    assert!(detached.status.success(), "{detached:?}");
    for interface in ["eth0", "docker0", "vc"] {
        let shown = shown(&lab, interface);
        assert!(
            !shown.contains("bpf") && !shown.contains("clsact"),
            "{interface}: {shown}"
        );
    }
    assert!(!datapath.pins().exists());
}

#[test]
fn upgrades_are_not_noticed() {
    let lab = Lab::new();
    let mut datapath = Datapath::start_with(&lab, CLSACT, load::PORTS);
    let load = Load::begin(&lab, Plan::UPGRADE);
    for _ in 0..5 {
        datapath.kill();
        assert!(is_whole(&lab));
        datapath.restart();
        assert!(is_whole(&lab), "{}", shown(&lab, "eth0"));
    }
    load.end().assert_unnoticed(2);
}

#[test]
fn filters_of_others_stay_and_ours_come_back() {
    let lab = Lab::new();
    // Somebody had clsact before.
    let tc = |words: &str| run(lab.host.command("tc").args(words.split(' ')));
    tc("qdisc add dev eth0 clsact");
    let mut datapath = Datapath::start_with(&lab, CLSACT, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    assert!(reaches(&lab));
    let mut held = Talk::open(&lab.lan, PUBLISHED).unwrap();
    // With everybody's filters.
    datapath.frozen(|| {
        tc("qdisc del dev eth0 clsact");
        assert!(!is_whole(&lab));
    });
    // Sooner than everything is looked at anew.
    wait_for(Duration::from_secs(8), "the filters", || is_whole(&lab));
    held.ask().unwrap();
    // One of ours alone.
    tc("filter del dev eth0 ingress prio 25712");
    wait_for(Duration::from_secs(8), "the filter", || is_whole(&lab));
    healed("it is said", || {
        datapath
            .log()
            .matches("uplink_ingress was taken off eth0")
            .count()
            == 2
    });
    held.ask().unwrap();
    // A pin, which holds nothing here: the filter is found again, with the next service too.
    for pin in datapath.links("uplink_") {
        fs::remove_file(pin).unwrap();
    }
    held.ask().unwrap();
    datapath.kill();
    datapath.restart();
    assert!(is_whole(&lab), "{}", shown(&lab, "eth0"));
    held.ask().unwrap();
    // From one means to the other and back.
    for (from, to) in [("clsact", "tcx"), ("tcx", "clsact")] {
        datapath.kill();
        datapath.edit(
            &format!("attach = \"{from}\""),
            &format!("attach = \"{to}\""),
        );
        datapath.restart();
        assert_eq!(is_whole(&lab), to == "clsact", "{}", shown(&lab, "eth0"));
        assert_eq!(
            lab.host.classifiers("eth0").len(),
            if to == "tcx" { 2 } else { 0 }
        );
        held.ask().unwrap_or_else(|error| panic!("{to}: {error}"));
        assert!(reaches(&lab), "{to}");
    }
    // Of an interface that goes nothing stays.
    lab.host.ip("link del eth0");
    healed("the pins are gone", || datapath.links("uplink_").is_empty());
    join(&lab.host, &lab.lan);
    healed("the uplink made anew", || reaches(&lab));
    assert!(is_whole(&lab));
}
