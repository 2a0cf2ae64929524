//! A service that is killed in the middle of a change, at the call of one's choice.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    process::{Child, ChildStderr, Command, Output, Stdio},
};

use datapath_common::family::{V4, V6};
use datapath_user::{
    kernel::{
        pinned::Pinned,
        tables::{Tabled, Tables},
    },
    view::PortView,
};

use crate::lab::{
    Datapath, Lab, load,
    talk::{self, Talk},
    wait_until,
};

/// Ports that are published and withdrawn in one change.
const CHANGED: [u16; 3] = [9000, 9001, 9002];

/// strace(1) at work. It ends when nobody reads what it says.
struct Tracer {
    child: Child,
    _said: BufReader<ChildStderr>,
}

impl Drop for Tracer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Kills the service at one call after another of a change that publishes ports, and of one that withdraws them,
/// and looks after each whether the next service finds the world in order. Ends when a change is through without
/// reaching the call. Returns how often the service was killed.
///
/// `calls` are names of system calls, and `at` says which of them: each thread's first is 1.
pub fn kill_at(calls: &str, at: impl Iterator<Item = u32>) -> u32 {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut killed = 0;
    for number in at {
        let mut reached = false;
        for publish in [true, false] {
            let tracer = trace(datapath.pid(), calls, number);
            let through = change(&datapath, publish).status.success();
            reached |= end(&mut datapath, tracer, through);
            datapath.restart();
            in_order(
                &lab,
                &datapath,
                &format!("{calls} {number}, publish: {publish}"),
            );
            // Whatever came of it: from here the next change begins.
            settle(&datapath, publish);
        }
        if !reached {
            break;
        }
        killed += 1;
    }
    killed
}

/// Kills a service at one bpf(2) call after another of its start, with nothing in the kernel yet and again where one
/// served before, and looks each time whether the next service finds the world in order. Ends with the first start that
/// makes fewer calls. Returns how often one was killed.
pub fn kill_start_at(at: impl Iterator<Item = u32>) -> u32 {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut killed = 0;
    for number in at {
        let mut reached = false;
        for fresh in [true, false] {
            let mut held = Talk::open(&lab.lan, "203.0.113.2:8080").expect("the published port");
            datapath.kill();
            if fresh {
                let detached = datapath.cli(&["detach"]);
                assert!(detached.status.success(), "{detached:?}");
            }
            reached |= start_killed_at(&datapath, number);
            let when = format!("start, bpf {number}, fresh: {fresh}");
            if !fresh {
                held.ask().unwrap_or_else(|error| panic!("{when}: {error}"));
            }
            datapath.restart();
            assert!(Talk::open(&lab.lan, "203.0.113.2:8080").is_ok(), "{when}");
            assert_eq!(
                lab.host.classifiers("eth0"),
                ["uplink_ingress", "uplink_egress"],
                "{when}"
            );
            if !fresh {
                held.ask().unwrap_or_else(|error| panic!("{when}: {error}"));
            }
        }
        if !reached {
            break;
        }
        killed += 1;
    }
    killed
}

/// Starts a service that is killed at its nth bpf(2) call, and says whether it came so far. One that is ready, or
/// ended by itself, did not.
fn start_killed_at(datapath: &Datapath, nth: u32) -> bool {
    let ordinary = datapath.command(&["run"]);
    let mut service = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=bpf", "-e"])
        .arg(format!("inject=bpf:signal=KILL:when={nth}"))
        .arg(ordinary.get_program())
        .args(ordinary.get_args())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace");
    let (mut ended, mut ready) = (None, None);
    wait_until("the service is killed, or ready", || {
        ended = service.try_wait().expect("a child");
        ready = datapath.serving();
        ended.is_some() || ready.is_some()
    });
    if let Some(pid) = ready {
        // It may reach that call yet, and be gone.
        drop(Command::new("kill").arg(pid.to_string()).output());
    }
    let status = service.wait().expect("a child");
    assert_ne!(status.code(), Some(1), "it ended with an error of its own");
    !status.success()
}

/// strace(1) on all threads of a process, which it kills when one makes its nth such call.
fn trace(pid: u32, calls: &str, nth: u32) -> Tracer {
    let mut child = Command::new("strace")
        .args([
            "-f",
            "-p",
            &pid.to_string(),
            "-e",
            &format!("trace={calls}"),
        ])
        .args(["-e", &format!("inject={calls}:signal=KILL:when={nth}")])
        .args(["-o", "/dev/null"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace");
    let mut said = BufReader::new(child.stderr.take().expect("what strace says"));
    let mut line = String::new();
    while !line.contains("attached") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap_or(0) > 0, "strace ended");
    }
    Tracer { child, _said: said }
}

fn change(datapath: &Datapath, publish: bool) -> Output {
    if publish {
        datapath.cli(&["publish", "9000-9002:80-82", "--to", "172.17.0.2"])
    } else {
        datapath.cli(&["unpublish", "9000-9002"])
    }
}

/// Ends service and tracer, and says whether the service was dead already.
fn end(datapath: &mut Datapath, tracer: Tracer, through: bool) -> bool {
    let mut dead = datapath.is_dead();
    if !dead && !through {
        // Nothing else cuts a change short. The tracer sees the end first, and we a moment later.
        wait_until("the service is dead", || datapath.is_dead());
        dead = true;
    }
    drop(tracer);
    if !dead {
        datapath.kill();
    }
    dead
}

/// Each port is open or closed, as the list says; the others are as they were; no slot is given twice.
fn in_order(lab: &Lab, datapath: &Datapath, when: &str) {
    let listed = listed(datapath);
    assert!(
        listed.contains(&8080) && listed.contains(&5300),
        "{when}: {listed:?}"
    );
    let open = Talk::open(&lab.lan, "203.0.113.2:9000").is_ok();
    assert_eq!(open, listed.contains(&9000), "{when}: {listed:?}");
    assert!(Talk::open(&lab.lan, "203.0.113.2:8080").is_ok(), "{when}");
    let mut slots: Vec<_> = ports(datapath).iter().map(|port| port.slot).collect();
    slots.extend(slots_of_addresses::<V4>(datapath));
    slots.extend(slots_of_addresses::<V6>(datapath));
    let different: BTreeSet<_> = slots.iter().collect();
    assert_eq!(
        different.len(),
        slots.len(),
        "{when}: a slot was given twice"
    );
}

fn slots_of_addresses<F: Tabled>(datapath: &Datapath) -> Vec<u32> {
    let (locals, _) = Tables::new(datapath.pins()).locals::<F>().expect("the map");
    let locals = locals.entries().expect("the host's addresses");
    locals.values().map(|local| local.slot).collect()
}

fn ports(datapath: &Datapath) -> Vec<PortView> {
    let ports = Pinned::open(datapath.pins()).and_then(|pinned| pinned.ports());
    ports.expect("the published ports")
}

fn listed(datapath: &Datapath) -> BTreeSet<u16> {
    ports(datapath)
        .iter()
        .map(|port| port.publication.listen.port)
        .collect()
}

/// Brings the ports to what the change was about.
fn settle(datapath: &Datapath, publish: bool) {
    for port in CHANGED {
        let there = listed(datapath).contains(&port);
        let done = match (publish, there) {
            (true, false) => {
                let arg = format!("{port}:{}", port - 9000 + 80);
                datapath.cli(&["publish", &arg, "--to", "172.17.0.2"])
            }
            (false, true) => datapath.cli(&["unpublish", &port.to_string()]),
            _ => continue,
        };
        assert!(done.status.success(), "{port}: {done:?}");
    }
}
