//! A service that is killed in the middle of a change, at the call of one's choice.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
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

/// Kills a service at bpf(2) calls of its start, with nothing in the kernel yet and again where one served before, and
/// looks each time whether the next service finds the world in order. Returns how often one was killed.
///
/// `at` chooses among the calls of a whole start: the first is 1.
pub fn kill_start_at(at: impl Fn(&[String]) -> Vec<usize>) -> usize {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut killed = 0;
    for fresh in [true, false] {
        let before = |datapath: &mut Datapath| {
            datapath.kill();
            if fresh {
                let detached = datapath.cli(&["detach"]);
                assert!(detached.status.success(), "{detached:?}");
            }
        };
        before(&mut datapath);
        let calls = calls_of_a_start(&datapath);
        datapath.restart();
        for number in at(&calls) {
            let mut held = Talk::open(&lab.lan, "203.0.113.2:8080").expect("the published port");
            before(&mut datapath);
            killed += usize::from(start_killed_at(&datapath, number));
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
    }
    killed
}

/// The bpf(2) calls of a start's first thread until the service is ready, as strace(1) prints them. It is ended again.
/// (Others load programs, and are counted by themselves.)
#[must_use]
pub fn calls_of_a_start(datapath: &Datapath) -> Vec<String> {
    let calls = tempfile::NamedTempFile::new().expect("a file");
    let mut service = traced(datapath, calls.path(), "trace=bpf");
    wait_until("the service is ready", || datapath.serving().is_some());
    end_tracee(datapath, &mut service);
    let calls = fs::read_to_string(calls.path()).expect("what strace says");
    let thread = |line: &str| line.split(' ').next().map(str::to_owned);
    let first = thread(&calls);
    calls
        .lines()
        .filter(|line| thread(line) == first && line.contains(" bpf("))
        .map(str::to_owned)
        .collect()
}

/// Starts a service whose first thread's bpf(2) calls the kernel refuses from the nth on, and returns how it ends.
#[must_use]
pub fn start_refused_from(datapath: &Datapath, nth: usize) -> Output {
    let mut service = strace(
        datapath,
        Path::new("/dev/null"),
        &format!("inject=bpf:error=EINVAL:when={nth}+"),
    );
    service.stdin(Stdio::null()).output().expect("strace")
}

/// Starts a service that is killed at its nth bpf(2) call, and says whether it came so far. One that is ready, or
/// ended by itself, did not.
fn start_killed_at(datapath: &Datapath, nth: usize) -> bool {
    let inject = format!("inject=bpf:signal=KILL:when={nth}");
    let mut service = traced(datapath, Path::new("/dev/null"), &inject);
    let (mut ended, mut ready) = (None, None);
    wait_until("the service is killed, or ready", || {
        ended = service.try_wait().expect("a child");
        ready = datapath.serving();
        ended.is_some() || ready.is_some()
    });
    if ready.is_some() {
        // It may reach that call yet, and be gone.
        end_tracee(datapath, &mut service);
    }
    let status = service.wait().expect("a child");
    assert_ne!(status.code(), Some(1), "it ended with an error of its own");
    !status.success()
}

/// Ends the service that strace(1) started, and with it strace.
fn end_tracee(datapath: &Datapath, service: &mut Child) {
    if let Some(pid) = datapath.serving() {
        drop(Command::new("kill").arg(pid.to_string()).output());
    }
    service.wait().expect("a child");
}

fn traced(datapath: &Datapath, calls: &Path, what: &str) -> Child {
    let mut service = strace(datapath, calls, what);
    service.stderr(Stdio::null()).spawn().expect("strace")
}

/// The service under strace(1), which writes its bpf(2) calls down and does `what` to them.
fn strace(datapath: &Datapath, calls: &Path, what: &str) -> Command {
    let ordinary = datapath.command(&["run"]);
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-e", "trace=bpf", "-e", what, "-o"])
        .arg(calls)
        .arg(ordinary.get_program())
        .args(ordinary.get_args());
    command
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
