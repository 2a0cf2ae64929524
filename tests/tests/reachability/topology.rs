//! A Docker host with networks and containers of every kind, and who asks.
//!
//! ```text
//! far 198.51.100.7 ── lan 203.0.113.9 ──┬── host 203.0.113.2 and .3 ── networks, see [`Network`]
//!                  second 203.0.113.10 ─┘
//! ```
//!
//! Those outside route the containers' subnets to the host, and the second routes 127.0.0.0/8 to it, too.

use std::{collections::HashMap, thread};

use datapath_tests::lab::{Datapath, DockerLab, Netns, run, wait_until};

use super::{probe::serve, targets::Target};

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// Datapath, beside an engine that does not.
    Datapath,
    /// The engine: iptables, ip6tables and docker-proxy.
    Own,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Lan,
    Second,
    Far,
    Host,
    /// Another container of the target's network.
    Same,
    /// A container of another network.
    Other,
    /// A container of an internal network.
    Internal,
    /// The target's own container.
    Itself,
}

impl Source {
    pub(crate) const ALL: [Self; 8] = [
        Self::Lan,
        Self::Second,
        Self::Far,
        Self::Host,
        Self::Same,
        Self::Other,
        Self::Internal,
        Self::Itself,
    ];
}

/// A network of Docker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    /// The default bridge: IPv4 alone.
    Default,
    /// One of both families, with nothing special.
    One,
    /// Another such.
    Two,
    Inner,
    Apart,
    Own,
}

impl Network {
    /// Those that are made: with their name, the second byte of the subnets (as written), and options.
    const MADE: [(Self, &'static str, &'static str, &'static [&'static str]); 5] = [
        (Self::One, "one", "20", &[]),
        (Self::Two, "two", "21", &[]),
        (Self::Inner, "inner", "22", &["--internal"]),
        (
            Self::Apart,
            "apart",
            "23",
            &["-o", "com.docker.network.bridge.enable_icc=false"],
        ),
        (
            Self::Own,
            "own",
            "24",
            &["-o", "com.docker.network.bridge.enable_ip_masquerade=false"],
        ),
    ];
}

/// Containers: name, network, the last byte of their addresses, and what they publish, in TCP and UDP.
const CONTAINERS: [(&str, &str, &str, &[&str]); 6] = [
    (
        "web",
        "one",
        "2",
        &[
            "8080:80",
            "203.0.113.2:8081:80",
            "127.0.0.1:8082:80",
            "127.0.0.2:8083:80",
            "[::1]:8084:80",
            "[2001:db8::2]:8085:80",
            "203.0.113.2:8086:80",
        ],
    ),
    ("twin", "one", "3", &["203.0.113.3:8086:80"]),
    ("four", "bridge", "2", &["8090:80"]),
    ("hidden", "inner", "2", &["8091:80"]),
    ("alone", "apart", "2", &["8092:80"]),
    ("open", "own", "2", &["8093:80"]),
];

/// The whole of it.
pub(crate) struct Topology {
    /// A container of each network that asks.
    peers: HashMap<Network, Netns>,
    containers: HashMap<&'static str, Netns>,
    second: Netns,
    far: Netns,
    datapath: Option<Datapath>,
    lab: DockerLab,
}

impl Topology {
    pub(crate) fn new(engine: Engine) -> Self {
        let lab = match engine {
            Engine::Datapath => DockerLab::new(),
            Engine::Own => DockerLab::with_flags(&[
                "--iptables=true",
                "--userland-proxy=true",
                "--experimental=true",
                "--ip6tables=true",
            ]),
        };
        let (second, far) = outside(&lab);
        let datapath = (engine == Engine::Datapath).then(|| Datapath::following(&lab, ""));
        let mut peers = HashMap::new();
        let default = ["172.17.0.9/16"];
        let peer = lab.add_container("p17", "docker0", &default, &["172.17.0.1"]);
        peers.insert(Network::Default, peer);
        for (network, name, number, options) in Network::MADE {
            create(&lab, name, number, options);
            let addresses = [
                format!("172.{number}.0.9/16"),
                format!("fd00:{number}::9/64"),
            ];
            let gateways = [format!("172.{number}.0.1"), format!("fd00:{number}::1")];
            let peer = lab.add_container(
                &format!("p{number}"),
                &format!("br{number}"),
                &addresses.each_ref().map(String::as_str),
                &gateways.each_ref().map(String::as_str),
            );
            peers.insert(network, peer);
        }
        route_loopback(&peers[&Network::One], "172.20.0.1");
        let containers = start(&lab);
        if let Some(datapath) = &datapath {
            wait_until("every port", || {
                let ports = listed(datapath);
                ["8080", "8085", "8090", "8092", "8093", "8086"]
                    .iter()
                    .all(|port| ports.contains(&format!(":{port}/udp")))
                    && ports.contains("203.0.113.3:8086")
            });
        }
        Self {
            peers,
            containers,
            second,
            far,
            datapath,
            lab,
        }
    }

    /// What datapath says of its ports.
    pub(crate) fn ports(&self) -> String {
        self.datapath.as_ref().map(listed).unwrap_or_default()
    }

    /// Where a source is, for a target.
    pub(crate) fn source(&self, source: Source, target: &Target) -> &Netns {
        match source {
            Source::Lan => &self.lab.lan,
            Source::Second => &self.second,
            Source::Far => &self.far,
            Source::Host => &self.lab.host,
            Source::Same => &self.peers[&target.network],
            Source::Other => &self.peers[&Network::Two],
            Source::Internal => &self.peers[&Network::Inner],
            Source::Itself => &self.containers[target.container],
        }
    }
}

fn listed(datapath: &Datapath) -> String {
    String::from_utf8_lossy(&datapath.cli(&["ports"]).stdout).into_owned()
}

fn sysctl(netns: &Netns, settings: &[&str]) {
    run(netns.command("sysctl").arg("-qw").args(settings));
}

/// The hosts outside: the LAN host becomes a switch for a second one, and a router for a far one.
fn outside(lab: &DockerLab) -> (Netns, Netns) {
    const FORWARD: [&str; 2] = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
    let (lan, host) = (&lab.lan, &lab.host);
    let (second, far) = (lab.add_host("second"), lab.add_host("far"));
    lan.ip("addr flush dev eth0");
    lan.ip("link add br0 type bridge");
    lan.ip("link set eth0 master br0");
    lan.ip(&format!(
        "link add v2 type veth peer name eth0 netns {}",
        second.name()
    ));
    lan.ip("link set v2 master br0 up");
    lan.ip("link set br0 up");
    second.ip("link set eth0 up");
    lan.ip(&format!(
        "link add v3 type veth peer name eth0 netns {}",
        far.name()
    ));
    lan.ip("link set v3 up");
    far.ip("link set eth0 up");
    for (netns, interface, addresses) in [
        (lan, "br0", ["203.0.113.9/24", "2001:db8::9/64"]),
        (&second, "eth0", ["203.0.113.10/24", "2001:db8::10/64"]),
        (host, "eth0", ["203.0.113.3/24", "2001:db8::3/64"]),
        (host, "eth0", ["203.0.113.3/24", "2001:db8::2/64"]),
        (lan, "v3", ["198.51.100.1/24", "2001:db8:7::1/64"]),
        (&far, "eth0", ["198.51.100.7/24", "2001:db8:7::7/64"]),
    ] {
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            netns.ip(&format!("addr replace {address} dev {interface}{nodad}"));
        }
    }
    for netns in [lan, &second] {
        netns.ip("route add 172.16.0.0/12 via 203.0.113.2");
        netns.ip("route add fd00::/8 via 2001:db8::2");
    }
    for (netns, gateways) in [
        (&far, ["198.51.100.1", "2001:db8:7::1"]),
        (host, ["203.0.113.9", "2001:db8::9"]),
    ] {
        for gateway in gateways {
            netns.ip(&format!("route add default via {gateway}"));
        }
    }
    sysctl(lan, &FORWARD);
    sysctl(host, &FORWARD);
    // As lax as hosts are: what is bound to loopback has to stay there all the same.
    sysctl(host, &["net.ipv4.conf.all.route_localnet=1"]);
    route_loopback(&second, "203.0.113.2");
    (second, far)
}

/// Has a namespace send what is for 127.0.0.0/8 to somebody else.
fn route_loopback(netns: &Netns, to: &str) {
    sysctl(
        netns,
        &[
            "net.ipv4.conf.all.route_localnet=1",
            "net.ipv4.conf.eth0.route_localnet=1",
        ],
    );
    netns.ip("route flush table local dev lo");
    netns.ip(&format!("route add 127.0.0.0/8 via {to}"));
}

fn create(lab: &DockerLab, name: &str, number: &str, options: &[&str]) {
    let bridge = format!("com.docker.network.bridge.name=br{number}");
    let subnets = [
        format!("172.{number}.0.0/16"),
        format!("fd00:{number}::/64"),
    ];
    let gateways = [format!("172.{number}.0.1"), format!("fd00:{number}::1")];
    let mut arguments = vec!["network", "create", "--ipv6", "-o", &bridge];
    for (subnet, gateway) in subnets.iter().zip(&gateways) {
        arguments.extend(["--subnet", subnet, "--gateway", gateway]);
    }
    arguments.extend(options);
    arguments.push(name);
    lab.docker.ask(&arguments);
}

/// Starts the containers, all at once, and the servers in them.
fn start(lab: &DockerLab) -> HashMap<&'static str, Netns> {
    thread::scope(|scope| {
        let started: Vec<_> = CONTAINERS
            .iter()
            .map(|container| scope.spawn(|| start_one(lab, container)))
            .collect();
        started
            .into_iter()
            .map(|container| container.join().expect("a container"))
            .collect()
    })
}

fn start_one(
    lab: &DockerLab,
    (name, network, last, ports): &(&'static str, &str, &str, &[&str]),
) -> (&'static str, Netns) {
    let mut options = vec![format!("--network={network}")];
    let made = Network::MADE.iter().find(|(_, made, ..)| made == network);
    if let Some((_, _, number, _)) = made {
        options.push(format!("--ip=172.{number}.0.{last}"));
        options.push(format!("--ip6=fd00:{number}::{last}"));
    }
    for port in *ports {
        for protocol in ["tcp", "udp"] {
            options.push(format!("--publish={port}/{protocol}"));
        }
    }
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    lab.docker.run(name, &options, &["sleep", "infinity"]);
    let netns = lab.docker.netns(name);
    serve(&netns, name);
    (name, netns)
}
