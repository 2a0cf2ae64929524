//! What Docker promises of ports and networks, by the names of its own integration tests, with a real engine and
//! nothing in netfilter. Starting an engine takes longer than a check: all of them share one.

mod life;
mod publish;
mod reach;

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use datapath_tests::lab::{Datapath, DockerLab, Netns, run, udp_exchange, wait_until};
use serde_json::Value;

/// How long somebody who is not answered tries.
const SHORT: Duration = Duration::from_millis(300);

/// A check, and the name that Docker's own tests have for it.
type Check = (&'static str, fn(&Stage));

/// An engine, and a service that follows it.
pub(crate) struct Stage {
    pub(crate) lab: DockerLab,
    pub(crate) datapath: Datapath,
}

impl Stage {
    fn new() -> Self {
        let lab = DockerLab::new();
        for (netns, address) in [(&lab.host, "2001:db8::2/64"), (&lab.lan, "2001:db8::9/64")] {
            netns.ip(&format!("addr add {address} dev eth0 nodad"));
        }
        lab.host.ip("addr add 203.0.113.3/24 dev eth0");
        // Whoever wants to go past the published ports, or to the host's loopback addresses, knows the way.
        lab.lan.ip("route add 172.16.0.0/12 via 203.0.113.2");
        lab.lan.ip("route del local 127.0.0.0/8 dev lo table local");
        lab.lan.ip("route add 127.0.0.2/32 via 203.0.113.2");
        let forwarding = [
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.conf.all.route_localnet=1",
        ];
        run(lab.host.command("sysctl").arg("-qw").args(forwarding));
        run(lab
            .lan
            .command("sysctl")
            .args(["-qw", "net.ipv4.conf.all.route_localnet=1"]));
        let datapath = Datapath::following(&lab, "");
        for (name, options) in [
            ("blue", &["--subnet", "172.20.0.0/16"][..]),
            ("green", &["--subnet", "172.21.0.0/16"]),
            (
                "six",
                &[
                    "--subnet",
                    "172.22.0.0/16",
                    "--ipv6",
                    "--subnet",
                    "fd00:22::/64",
                ],
            ),
            ("inside", &["--subnet", "172.23.0.0/16", "--internal"]),
            (
                "bound",
                &[
                    "--subnet",
                    "172.24.0.0/16",
                    "-o",
                    "com.docker.network.bridge.host_binding_ipv4=203.0.113.3",
                ],
            ),
        ] {
            lab.docker
                .ask(&[&["network", "create", name], options].concat());
        }
        Self { lab, datapath }
    }

    /// Starts a container that serves a page with its own name at its port 80.
    pub(crate) fn serve(&self, name: &str, options: &[&str]) {
        let page = format!("echo {name} > /www/name; exec httpd -f -p 80 -h /www");
        self.lab.docker.run(name, options, &["sh", "-c", &page]);
    }

    /// Waits until somebody gets a container's name from there.
    pub(crate) fn opens(&self, from: &Netns, at: &str, name: &str) {
        wait_until(&format!("{name} at {at}"), || {
            who(from, at).as_deref() == Some(name)
        });
    }

    /// Waits until nobody answers there any more.
    pub(crate) fn closes(&self, from: &Netns, at: &str) {
        wait_until(&format!("nobody at {at}"), || who(from, at).is_none());
    }

    /// Removes containers.
    pub(crate) fn remove(&self, names: &[&str]) {
        self.lab.docker.ask(&[&["rm", "-f"], names].concat());
    }

    /// How many ports are published, whatever addresses they are on.
    pub(crate) fn ports(&self) -> usize {
        let ports = run(&mut self.datapath.command(&["ports", "--json"])).stdout;
        let ports: Value = serde_json::from_slice(&ports).expect("JSON");
        let ports = ports["ports"].as_array().expect("a list").iter();
        let ports: BTreeSet<_> = ports.map(|port| port["port"].as_u64()).collect();
        ports.len()
    }
}

/// The name that is served there; `None` when nobody answers soon.
pub(crate) fn who(from: &Netns, at: &str) -> Option<String> {
    let at: SocketAddr = at.parse().expect("an address");
    from.enter(move || {
        let mut stream = TcpStream::connect_timeout(&at, SHORT).ok()?;
        stream.set_read_timeout(Some(SHORT)).ok()?;
        stream.write_all(b"GET /name HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some(body.trim().to_owned())
    })
}

/// The name that a datagram is answered with.
pub(crate) fn names(from: &Netns, at: &str) -> Option<String> {
    udp_exchange(from, at, "who?").ok()
}

#[test]
fn what_docker_promises() {
    let stage = Stage::new();
    let checks: Vec<Check> = [publish::CHECKS, reach::CHECKS, life::CHECKS].concat();
    let mut failed = Vec::new();
    for (name, check) in checks {
        let start = Instant::now();
        let held = catch_unwind(AssertUnwindSafe(|| check(&stage))).is_ok();
        eprintln!(
            "{} {name} ({:?})",
            if held { "ok  " } else { "FAIL" },
            start.elapsed()
        );
        if !held {
            failed.push(name);
        }
        let left = stage.lab.docker.ask(&["ps", "-aq"]);
        let left: Vec<_> = left.split_whitespace().collect();
        if !left.is_empty() {
            stage.remove(&left);
        }
        wait_until("nothing is published any more", || stage.ports() == 0);
    }
    assert_eq!(failed, [""; 0]);
    assert_eq!(stage.lab.docker.processes("docker-proxy"), 0);
}
