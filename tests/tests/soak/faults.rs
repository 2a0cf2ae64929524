//! Faults by the hundred: a kill at each call of a change and of a start, ten thousand changes beside a flow, and a random
//! sequence of everything, under load.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use datapath_tests::{
    faults::{kill_at, kill_start_at},
    lab::{
        Datapath, Lab,
        load::{self, Load, Plan},
        run,
        talk::Talk,
        wait_for, wait_until,
    },
};

#[test]
fn killed_at_every_bpf_call_of_a_change() {
    let killed = kill_at("bpf", 1..1000);
    println!("killed at each of {killed} calls");
    assert!(killed >= 9, "{killed}");
}

#[test]
fn killed_at_every_bpf_call_of_a_start() {
    let killed = kill_start_at(|calls| {
        println!("of a start of {} calls:", calls.len());
        (1..=calls.len()).collect()
    });
    println!("killed at {killed} calls");
    assert!(killed > 1000, "{killed}");
}

#[test]
fn killed_at_socket_calls_of_a_change() {
    // Those of the API and those of netlink: the service looks at the network all the time.
    let killed = kill_at("sendto,recvfrom,recvmsg,sendmsg", 1..20);
    println!("killed at each of {killed} calls");
    assert!(killed > 1, "{killed}");
}

#[test]
fn ten_thousand_changes_beside_one_flow() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, load::PORTS);
    let plan = Plan {
        held: 1,
        connections: 10,
        datagrams: 100,
    };
    let load = Load::begin(&lab, plan);
    let mut times = Vec::new();
    let mut before = (0, 0);
    for number in 0..5_000 {
        if number == 500 {
            // What is kept from the first changes on is there by now.
            before = datapath.holds();
        }
        let port = 10_000 + number % 1000;
        let start = Instant::now();
        let published = datapath.cli(&["publish", &format!("{port}:80"), "--to", "172.17.0.2"]);
        times.push(start.elapsed());
        assert!(published.status.success(), "{published:?}");
        let withdrawn = datapath.cli(&["unpublish", &port.to_string()]);
        assert!(withdrawn.status.success(), "{withdrawn:?}");
    }
    load.end().assert_unnoticed(0);
    times.sort();
    println!(
        "publish, the command whole: median {:?}, 99 of 100 within {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
    let after = datapath.holds();
    println!("descriptors and KiB held: {before:?}, then {after:?}");
    assert!(after.0 <= before.0 + 2, "{before:?} {after:?}");
    assert!(after.1 <= before.1 + 1024, "{before:?} {after:?}");
}

/// A fault, and what it does to the lab.
type Fault = (&'static str, fn(&Lab, &mut Datapath));

/// What takes the uplink's programs off, if only for a moment: until they are there again the host answers for its
/// containers, and resets what it does not know.
const ROUGH: [Fault; 3] = [
    ("links removed", |_, datapath| {
        for pin in datapath.links("uplink_egress") {
            fs::remove_file(pin).unwrap();
        }
    }),
    ("links detached", |_, datapath| {
        for pin in datapath.links("uplink_") {
            // The service may have seen to it in between.
            drop(
                Command::new("bpftool")
                    .args(["link", "detach", "pinned"])
                    .arg(pin)
                    .output(),
            );
        }
    }),
    // The configuration calls it by its name.
    ("renamed", |lab, _| {
        lab.host.ip("link set eth0 name eth1");
        lab.host.ip("link set eth1 name eth0");
    }),
];

/// What no connection may notice.
const GENTLE: [Fault; 11] = [
    ("kill -9", |_, datapath| {
        datapath.kill();
        datapath.restart();
    }),
    ("hangup", |_, datapath| datapath.signal("-HUP")),
    ("frozen", |_, datapath| {
        datapath.frozen(|| thread::sleep(Duration::from_secs(1)));
    }),
    ("maps unpinned", |_, datapath| {
        drop(fs::remove_file(datapath.maps().join("FLOWS4")));
    }),
    ("settings overwritten", |_, datapath| {
        let tables = datapath_user::kernel::tables::Tables::new(datapath.pins());
        let mut map = tables.settings().unwrap();
        map.set(0, datapath_common::settings::Settings::DEFAULT, 0)
            .unwrap();
    }),
    ("rules flushed", |lab, _| {
        run(lab.host.command("nft").args(["flush", "ruleset"]));
        run(lab.host.command("iptables").args(["-F"]));
    }),
    ("clsact", |lab, _| {
        for word in ["add", "del"] {
            run(lab
                .host
                .command("tc")
                .args(["qdisc", word, "dev", "eth0", "clsact"]));
        }
    }),
    ("addresses", |lab, _| {
        lab.host.ip("addr add 203.0.113.77/24 dev eth0");
        lab.host.ip("addr del 203.0.113.77/24 dev eth0");
    }),
    ("down and up", |lab, _| {
        lab.host.ip("link set eth0 down");
        lab.host.ip("link set eth0 up");
    }),
    ("a container comes and goes", |lab, _| {
        drop(lab.add_container("r", "docker0", &["172.17.0.99/16"], &["172.17.0.1"]));
        wait_until("its port is gone", || {
            let mut ip = lab.host.command("ip");
            !ip.args(["link", "show", "vr"])
                .output()
                .unwrap()
                .status
                .success()
        });
    }),
    ("forwarding switched", |lab, _| {
        for value in ["0", "1"] {
            let setting = format!("net.ipv4.ip_forward={value}");
            run(lab.host.command("sysctl").args(["-qw", &setting]));
        }
    }),
];

#[test]
fn random_faults_for_minutes() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    let plan = Plan {
        held: 50,
        connections: 20,
        datagrams: 100,
    };
    let load = Load::begin(&lab, plan);
    one_after_the_other(&lab, &mut datapath, &GENTLE, 200);
    let outcome = load.end();
    println!("gentle ones: {outcome}");
    // A packet may be lost while an interface is down or nothing is forwarded, and is sent again.
    assert_eq!(outcome.held.alive, outcome.held.total, "{outcome}");
    assert_eq!(outcome.answered.wrong, 0, "{outcome}");

    let load = Load::resume(&lab, plan);
    one_after_the_other(&lab, &mut datapath, &ROUGH, 40);
    let outcome = load.end();
    println!("rough ones: {outcome}");
    // Nobody gets another's answer.
    assert_eq!(outcome.answered.wrong, 0, "{outcome}");
}

/// Which fault comes next is the same in each run: one that fails can be seen again.
fn one_after_the_other(lab: &Lab, datapath: &mut Datapath, faults: &[Fault], times: usize) {
    let first = datapath.links("").len();
    let mut state = 1_u32;
    let mut longest = (Duration::ZERO, "none");
    for number in 0..times {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (name, fault) = faults[(state >> 16) as usize % faults.len()];
        fault(lab, datapath);
        let start = Instant::now();
        let what = format!("all in place after fault {number}, {name}");
        wait_for(Duration::from_secs(5), &what, || {
            lab.host.classifiers("eth0") == ["uplink_ingress", "uplink_egress"]
                && datapath.maps().join("FLOWS4").exists()
                && datapath.links("").len() == first
                && datapath.serving().is_some()
                && Talk::open(&lab.lan, "203.0.113.2:8080").is_ok()
        });
        longest = longest.max((start.elapsed(), name));
        thread::sleep(Duration::from_secs(1));
    }
    println!("in place again after at the most {longest:?}");
}
