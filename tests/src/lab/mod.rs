//! A LAN host, a Docker host and a container, joined by veth pairs:
//!
//! ```text
//! lan 203.0.113.9 ──veth── 203.0.113.2 host 172.17.0.1 (docker0) ──veth── container 172.17.0.2
//! ```
//!
//! Every name carries this process and a counter, so labs never meet; all is taken down when dropped.

pub mod churn;
mod cleanup;
mod datapath;
mod docker;
mod endpoints;
mod engine;
pub mod load;
mod raw;
mod servers;
pub mod talk;
pub mod timing;

use std::{
    fs::File,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aya::programs::{SchedClassifier, TcAttachType};
use nix::sched::{CloneFlags, setns};

pub(crate) use self::cleanup::Cleanup;
pub use self::{
    cleanup::Passing,
    datapath::{Datapath, PORTS},
    docker::{Docker, DockerLab},
    engine::{FakeEngine, VERSION_28},
    raw::send_frame,
    servers::{tcp_echo, tcp_echo_each, tcp_exchange, udp_echo, udp_exchange, udp_server},
};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// How long anything in the lab may take before it counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A network namespace: of this run's own, or one that Docker made for a container.
#[derive(Debug)]
pub struct Netns {
    name: String,
    path: PathBuf,
    own: bool,
}

impl Netns {
    fn new(lab: &str, role: &str) -> Self {
        let name = format!("{lab}-{role}");
        run(Command::new("ip").args(["netns", "add", &name]));
        let netns = Self {
            path: PathBuf::from("/run/netns").join(&name),
            name,
            own: true,
        };
        // Until it knows that nobody else has its link-local address, a router does not ask for neighbours.
        run(netns
            .command("sysctl")
            .args(["-qw"])
            .args(["all", "default"].map(|which| format!("net.ipv6.conf.{which}.accept_dad=0"))));
        netns.ip("link set lo up");
        netns
    }

    /// One that somebody else made, and will remove.
    fn borrowed(name: &str, path: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            path,
            own: false,
        }
    }

    /// Its name, as `ip netns` has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in it.
    pub fn ip(&self, arguments: &str) {
        run(self.command("ip").args(arguments.split(' ')));
    }

    /// A program that runs in it. The file systems are those outside: `ip netns exec` would hide bpffs.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path.display()))
            .arg(program);
        command
    }

    /// The classifiers on one of its interfaces, inward ones first, in the order in which they run.
    #[must_use]
    pub fn classifiers(&self, interface: &str) -> Vec<String> {
        let interface = interface.to_owned();
        let query = move |kind| SchedClassifier::query_tcx(&interface, kind);
        let programs = self.enter(move || {
            [TcAttachType::Ingress, TcAttachType::Egress]
                .map(|kind| query(kind).map(|(_, all)| all))
        });
        programs
            .into_iter()
            // An interface that nobody has attached anything to has no list.
            .filter_map(Result::ok)
            .flatten()
            .filter_map(|program| program.name_as_str().map(ToOwned::to_owned))
            .collect()
    }

    /// Runs a closure on a thread of its own inside.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let path = self.path.clone();
        thread::spawn(move || {
            enter(&path);
            work()
        })
    }

    /// Runs a closure inside, and waits for it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter(&self.path);
                work()
            });
            inside.join().expect("the closure inside the namespace")
        })
    }
}

/// Moves the calling thread into a network namespace.
fn enter(path: &Path) {
    let file = File::open(path).expect("the namespace");
    setns(file.as_fd(), CloneFlags::CLONE_NEWNET).expect("entering the namespace");
}

impl Drop for Netns {
    fn drop(&mut self) {
        if self.own {
            // No second panic while a test fails.
            drop(
                Command::new("ip")
                    .args(["netns", "del", &self.name])
                    .output(),
            );
        }
    }
}

/// The lab.
#[derive(Debug)]
pub struct Lab {
    /// Its name: the beginning of every name in it.
    pub name: String,
    /// A host on the network outside.
    pub lan: Netns,
    /// The Docker host.
    pub host: Netns,
    /// A container.
    pub container: Netns,
    // Last: what the others took down themselves is not there any more.
    _cleanup: Cleanup,
}

impl Lab {
    /// Builds it.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "it makes namespaces: nobody should by default"
    )]
    pub fn new() -> Self {
        let name = unused_name();
        let lab = Self {
            _cleanup: Cleanup::stand_by(&format!(
                "for netns in $(ip netns list | grep -o '^{name}-[^ ]*'); do
                   for pid in $(ip netns pids $netns); do kill -9 $pid; done
                   ip netns del $netns
                 done
                 rm -rf /sys/fs/bpf/{name}"
            )),
            lan: Netns::new(&name, "lan"),
            host: Netns::new(&name, "host"),
            container: Netns::new(&name, "c"),
            name,
        };
        join(&lab.host, &lab.lan);
        lab.host.ip("link add docker0 type bridge");
        lab.host.ip(&format!(
            "link add vc type veth peer name eth0 netns {}",
            lab.container.name
        ));
        lab.host.ip("link set vc master docker0 up");
        lab.host.ip("addr add 172.17.0.1/16 dev docker0");
        lab.host.ip("link set docker0 up");
        lab.container.ip("addr add 172.17.0.2/16 dev eth0");
        lab.container.ip("link set eth0 up");
        lab.container.ip("route add default via 172.17.0.1");
        run(lab
            .host
            .command("sysctl")
            .args(["-qw", "net.ipv4.ip_forward=1"]));
        lab
    }
}

fn unused_name() -> String {
    format!(
        "dp{}x{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    )
}

/// Joins the host's uplink and the LAN host: at first, and after the uplink was deleted.
pub fn join(host: &Netns, lan: &Netns) {
    host.ip(&format!(
        "link add eth0 type veth peer name eth0 netns {}",
        lan.name
    ));
    host.ip("addr add 203.0.113.2/24 dev eth0");
    lan.ip("addr add 203.0.113.9/24 dev eth0");
    host.ip("link set eth0 up");
    lan.ip("link set eth0 up");
}

/// Runs a program to its end, which must be a good one.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// Waits until something holds.
pub fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    wait_for(PATIENCE, what, holds);
}

/// Waits until something holds, that long at the most.
pub fn wait_for(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
