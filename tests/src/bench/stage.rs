//! A contender in a lab of its own, set up as its users have it.

use std::{
    fs,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use super::{contender::Contender, generator, peers};
use crate::lab::{Datapath, Lab, Netns, run};

/// The port outside, and the container's.
pub(super) const PORT: u16 = 8080;
pub(super) const TO_PORT: u16 = 80;
/// The hosts' addresses.
pub(super) const HOST: &str = "203.0.113.2";
pub(super) const WORLD: &str = "203.0.113.9";
pub(super) const ENDPOINT: &str = "172.17.0.2";
pub(super) const GATEWAY: &str = "172.17.0.1";
/// The ends of the veth pair past the host.
const DIRECT: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

/// A contender on its stage. What it started ends with it.
pub(super) struct Stage {
    pub(super) contender: Contender,
    pub(super) lab: Lab,
    /// A container beside that one.
    pub(super) neighbour: Netns,
    pub(super) proxies: Vec<Child>,
    pub(super) datapath: Option<Datapath>,
}

impl Stage {
    /// Sets it up, with one port published over TCP and UDP. `config` is for datapath: tables of its file.
    pub(super) fn new(contender: Contender, config: &str) -> Self {
        let lab = Lab::new();
        lab.host.ip(&format!("route add default via {WORLD}"));
        lab.lan.ip("addr add 198.51.100.1/16 dev lo");
        // Whoever asks from there is answered by way of the host.
        lab.lan.ip(&format!("route add 172.17.0.0/16 via {HOST}"));
        let neighbour = lab.add_container("n", "docker0", &["172.17.0.3/16"], &[GATEWAY]);
        let mut stage = Self {
            contender,
            lab,
            neighbour,
            proxies: Vec::new(),
            datapath: None,
        };
        match contender {
            Contender::Direct => stage.join_directly(),
            Contender::Redirect => stage.take_redirected_frames(),
            Contender::Routed => {}
            Contender::IptablesLegacy | Contender::IptablesNft | Contender::NftablesMap => {
                peers::prepare(&stage);
            }
            Contender::DockerProxy => {
                peers::prepare(&stage);
                for protocol in ["tcp", "udp"] {
                    peers::start_proxy(&mut stage, protocol, PORT, TO_PORT);
                }
            }
            Contender::DatapathKernel => stage.start("kernel", "off", config),
            Contender::Datapath => stage.start("auto", "off", config),
            Contender::DatapathXdp => {
                stage.take_redirected_frames();
                stage.start("auto", "native", config);
            }
        }
        stage.warm();
        wait_for_quiet();
        stage
    }

    /// Where a client outside finds the server: address and port.
    pub(super) fn target(&self) -> (&'static str, u16) {
        match self.contender {
            Contender::Direct => (DIRECT[1], TO_PORT),
            Contender::Redirect | Contender::Routed => (ENDPOINT, TO_PORT),
            Contender::IptablesLegacy
            | Contender::IptablesNft
            | Contender::NftablesMap
            | Contender::DockerProxy
            | Contender::DatapathKernel
            | Contender::Datapath
            | Contender::DatapathXdp => (HOST, PORT),
        }
    }

    /// Where the container finds a server outside.
    pub(super) fn world(&self) -> (&'static str, u16) {
        let direct = self.contender == Contender::Direct;
        (if direct { DIRECT[0] } else { WORLD }, TO_PORT)
    }

    /// Runs a script on the host.
    pub(super) fn sh(&self, script: &str) {
        run(self.lab.host.command("sh").args(["-ec", script]));
    }

    /// The service of the project, where it is the contender.
    pub(super) fn service(&self) -> &Datapath {
        self.datapath.as_ref().expect("datapath is the contender")
    }

    /// The id of a program of the project's, if it is attached to that interface of the host.
    pub(super) fn program(&self, name: &str, interface: &str) -> Option<u32> {
        let index = self.ifindex(interface);
        let link = self.service().pins().join(format!("links/{name}-{index}"));
        if !link.exists() {
            return None;
        }
        let shown = run(std::process::Command::new("bpftool")
            .args(["-j", "link", "show", "pinned"])
            .arg(link));
        let shown: serde_json::Value =
            serde_json::from_slice(&shown.stdout).expect("bpftool's JSON");
        Some(shown["prog_id"].as_u64().expect("a program") as u32)
    }

    /// The index of an interface of the host.
    pub(super) fn ifindex(&self, interface: &str) -> u32 {
        let host = &self.lab.host;
        host.enter(|| generator::ifindex(interface).expect("the interface"))
    }

    fn join_directly(&self) {
        let lab = &self.lab;
        lab.lan.ip(&format!(
            "link add direct type veth peer name direct netns {}",
            lab.container.name()
        ));
        for (netns, address) in [(&lab.lan, DIRECT[0]), (&lab.container, DIRECT[1])] {
            netns.ip(&format!("addr add {address}/30 dev direct"));
            netns.ip("link set direct up");
        }
    }

    /// A veth interface takes frames from XDP where its peer has NAPI: with GRO on.
    fn take_redirected_frames(&self) {
        run(self
            .lab
            .container
            .command("ethtool")
            .args(["-K", "eth0", "gro", "on"]));
    }

    fn start(&mut self, forwarding: &str, xdp: &str, config: &str) {
        let mut ports = String::new();
        for protocol in ["tcp", "udp"] {
            ports += &format!(
                "[[publish]]\nlisten = \"0.0.0.0:{PORT}\"\nto = \"{ENDPOINT}:{TO_PORT}\"\nprotocol = {protocol:?}\n"
            );
        }
        let keys = format!("forwarding = {forwarding:?}\nxdp = {xdp:?}");
        let config = format!("{ports}{config}");
        self.datapath = Some(Datapath::start_with(&self.lab, &keys, &config));
    }

    /// Lets all know each other, so that nobody pays for ARP.
    fn warm(&self) {
        for (from, to) in [
            (&self.lab.container, WORLD),
            (&self.neighbour, GATEWAY),
            (&self.lab.host, ENDPOINT),
            (&self.lab.host, WORLD),
        ] {
            run(from.command("ping").args(["-c2", "-i0.05", "-W2", to]));
        }
    }

    /// Bytes that datapath's maps take in the kernel, as the kernel accounts for them.
    pub(super) fn map_memory(&self) -> u64 {
        let pins = self.service().pins();
        let maps = fs::read_dir(pins)
            .expect("the pins")
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("maps-v"))
            .flat_map(|entry| fs::read_dir(entry.path()).expect("the maps").flatten());
        maps.map(|map| {
            let shown = run(std::process::Command::new("bpftool")
                .args(["-j", "map", "show", "pinned"])
                .arg(map.path()));
            let shown: serde_json::Value =
                serde_json::from_slice(&shown.stdout).expect("bpftool's JSON");
            shown["bytes_memlock"].as_u64().expect("a size")
        })
        .sum()
    }
}

/// Waits until the machine has nothing else to do: the kernel takes its time to clear away what the contender before had
/// (a million flows, namespaces), on the CPU that is measured on. A machine that is never quiet is measured as it is.
fn wait_for_quiet() {
    const LOOK: Duration = Duration::from_millis(250);
    const PATIENCE: Duration = Duration::from_secs(5);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let before = ticks();
        thread::sleep(LOOK);
        let after = ticks();
        let [idle, all] = [0, 1].map(|which| after[which] - before[which]);
        if idle * 10 >= all * 9 {
            return;
        }
    }
}

/// What the CPUs have spent with nothing to do, and in all, in the ticks of `/proc/stat`.
fn ticks() -> [u64; 2] {
    let stat = fs::read_to_string("/proc/stat").expect("the CPUs' times");
    let line = stat.lines().next().unwrap_or_default();
    let times = line.split_whitespace().skip(1);
    let times: Vec<u64> = times.map(|time| time.parse().expect("a time")).collect();
    // user, nice, system, idle, iowait, ...
    [times[3] + times[4], times.iter().sum()]
}

impl Drop for Stage {
    fn drop(&mut self) {
        for proxy in &mut self.proxies {
            drop(proxy.kill());
        }
        for proxy in &mut self.proxies {
            drop(proxy.wait());
        }
    }
}
