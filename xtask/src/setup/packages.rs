//! The programs that the tests and the demo use, and the Debian packages that have them.

use anyhow::{Result, bail};

use crate::machine;

use super::{
    apt::{self, Apt},
    report::Report,
};

/// A package, and why it is wanted.
struct Package {
    name: &'static str,
    proof: Proof,
    why: &'static str,
}

/// What shows that a package need not be installed.
enum Proof {
    /// The program is there, wherever it came from (docker-ce has a dockerd too).
    Program(&'static str),
    /// The package itself: another one has a program of that name which does not do.
    Installed,
}

impl Package {
    const fn new(name: &'static str, program: &'static str, why: &'static str) -> Self {
        Self {
            name,
            proof: Proof::Program(program),
            why,
        }
    }

    fn is_there(&self) -> bool {
        match self.proof {
            Proof::Program(program) => machine::program(program).is_some(),
            Proof::Installed => apt::is_installed(self.name),
        }
    }
}

const PACKAGES: [Package; 29] = [
    Package::new(
        "bpftool",
        "bpftool",
        "an independent look at what is loaded in the kernel",
    ),
    Package {
        name: "busybox-static",
        // Debian's `busybox` has the same program, linked with libraries that a test container lacks.
        proof: Proof::Installed,
        why: "the whole content of a test container: no image can be pulled",
    },
    Package::new(
        "conntrack",
        "conntrack",
        "the peer: how nf_conntrack sees the same flows",
    ),
    Package::new(
        "coturn",
        "turnutils_natdiscovery",
        "a STUN server and client: what kind of NAT this is, in others' words",
    ),
    Package::new("curl", "curl", "an HTTP client that is not ours"),
    Package::new(
        "docker.io",
        "dockerd",
        "a real Docker engine, run inside the lab",
    ),
    Package::new(
        "ethtool",
        "ethtool",
        "offloads and drivers of the test links",
    ),
    Package {
        name: "fonts-dejavu-core",
        proof: Proof::Installed,
        why: "letters in the drawings of the benchmarks",
    },
    Package::new("iperf3", "iperf3", "bulk TCP and UDP traffic"),
    Package::new("iproute2", "ip", "namespaces, links, routes"),
    Package::new(
        "iptables",
        "iptables",
        "the peer: the rules that Docker itself would write",
    ),
    Package::new("iputils-ping", "ping", "ICMP echo, fragments, path MTU"),
    Package::new("jq", "jq", "checks that --json says what it promises"),
    Package::new(
        "kmod",
        "modprobe",
        "loads the kernel's modules that the peers need",
    ),
    Package::new(
        "linux-perf",
        "perf",
        "where the benchmarks' packets spend their time",
    ),
    Package::new(
        "netcat-openbsd",
        "nc.openbsd",
        "a client with a chosen source port",
    ),
    Package::new("nftables", "nft", "the peer: firewalls of the host"),
    Package::new("nginx-light", "nginx", "a real server in a container"),
    Package::new("procps", "sysctl", "settings of the test hosts"),
    Package::new(
        "prometheus",
        "promtool",
        "reads our metrics as Prometheus does, and finds fault with them",
    ),
    Package::new(
        "redis-server",
        "redis-server",
        "a real server with long-lived connections",
    ),
    Package::new("socat", "socat", "endpoints for TCP, UDP and both families"),
    Package::new("strace", "strace", "proves which system calls were made"),
    Package::new(
        "systemd",
        "systemd-analyze",
        "judges the unit, and knows what its groups of system calls mean",
    ),
    Package::new("tar", "tar", "packs the test containers' image"),
    Package::new("tcpdump", "tcpdump", "an independent look at the packets"),
    Package::new("tmux", "tmux", "a terminal to look at the live view in"),
    Package::new("traceroute", "traceroute", "TTL and ICMP errors on the way"),
    Package::new("util-linux", "nsenter", "enters namespaces"),
];

/// Installs those of the packages that are missing.
///
/// # Errors
/// With the list of what is missing, when there is no apt, no root or no network.
pub(super) fn ensure(apt: Option<&mut Apt>, report: &mut Report) -> Result<()> {
    let mut missing = Vec::new();
    for package in &PACKAGES {
        if package.is_there() {
            report.found(package.name, package.why);
        } else {
            report.installs(package.name, package.why);
            missing.push(package.name);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let Some(apt) = apt else {
        bail!(
            "there is no apt-get here: install what Debian calls {} by this distribution's means, \
             then run this task again",
            missing.join(", ")
        );
    };
    apt.install(&missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_each_package_once() {
        assert!(PACKAGES.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn what_is_not_there_is_seen() {
        assert!(!Package::new("x", "no-such-program-anywhere", "").is_there());
        assert!(Package::new("x", "sh", "").is_there());
        let package = Package {
            name: "no-such-package-anywhere",
            proof: Proof::Installed,
            why: "",
        };
        assert!(!package.is_there());
    }
}
