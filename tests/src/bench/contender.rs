//! Who is measured, each set up as its users have it.

use std::process::{Child, Stdio};

use crate::lab::{Datapath, Lab, run, wait_until};

/// The port outside, and the container's.
pub(super) const PORT: u16 = 8080;
pub(super) const TO_PORT: u16 = 80;

/// What brings packets to the container and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// Routing alone, no translation: what the stack itself costs.
    Routed,
    /// iptables (the old kernel interface), with Docker's chains.
    IptablesLegacy,
    /// iptables over nf_tables, with Docker's chains.
    IptablesNft,
    /// One nftables map for all published ports: the best that netfilter can do.
    NftablesMap,
    /// docker-proxy, a process for each port.
    DockerProxy,
    /// datapath, with every packet sent through the stack.
    DatapathKernel,
    /// datapath as it is.
    Datapath,
}

/// A contender on its stage. What it started ends with it.
pub(super) struct Stage {
    pub(super) contender: Contender,
    pub(super) lab: Lab,
    proxies: Vec<Child>,
    _datapath: Option<Datapath>,
}

impl Contender {
    pub(super) const ALL: [Self; 7] = [
        Self::Routed,
        Self::IptablesLegacy,
        Self::IptablesNft,
        Self::NftablesMap,
        Self::DockerProxy,
        Self::DatapathKernel,
        Self::Datapath,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Routed => "routed, no NAT",
            Self::IptablesLegacy => "iptables-legacy",
            Self::IptablesNft => "iptables-nft",
            Self::NftablesMap => "nftables map",
            Self::DockerProxy => "docker-proxy",
            Self::DatapathKernel => "datapath, forwarding = kernel",
            Self::Datapath => "datapath",
        }
    }

    /// Sets it up in a lab of its own.
    pub(super) fn stage(self) -> Stage {
        let lab = Lab::new();
        lab.host.ip("route add default via 203.0.113.9");
        lab.lan.ip("addr add 198.51.100.1/16 dev lo");
        // Whoever asks from there is answered by way of the host.
        lab.lan.ip("route add 172.17.0.0/16 via 203.0.113.2");
        let mut stage = Stage {
            contender: self,
            lab,
            proxies: Vec::new(),
            _datapath: None,
        };
        match self {
            Self::Routed => {}
            Self::IptablesLegacy => stage.iptables("iptables-legacy"),
            Self::IptablesNft => stage.iptables("iptables-nft"),
            Self::NftablesMap => stage.nftables(),
            Self::DockerProxy => stage.proxy(),
            Self::DatapathKernel => stage.datapath("kernel"),
            Self::Datapath => stage.datapath("auto"),
        }
        stage
    }
}

impl Stage {
    /// Where a client finds the server: address and port.
    pub(super) fn target(&self) -> (&'static str, u16) {
        if self.contender == Contender::Routed {
            ("172.17.0.2", TO_PORT)
        } else {
            ("203.0.113.2", PORT)
        }
    }

    fn sh(&self, script: &str) {
        run(self.lab.host.command("sh").args(["-ec", script]));
    }

    /// The chains and rules that Docker 20.10 writes for `-p 8080:80` over TCP and UDP.
    fn iptables(&self, tool: &str) {
        let mut script = format!(
            "t={tool}
             for c in DOCKER DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2 DOCKER-USER; do $t -N $c; done
             $t -P FORWARD DROP
             $t -A FORWARD -j DOCKER-USER
             $t -A FORWARD -j DOCKER-ISOLATION-STAGE-1
             $t -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
             $t -A FORWARD -o docker0 -j DOCKER
             $t -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
             $t -A FORWARD -i docker0 -o docker0 -j ACCEPT
             $t -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
             $t -A DOCKER-ISOLATION-STAGE-1 -j RETURN
             $t -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
             $t -A DOCKER-ISOLATION-STAGE-2 -j RETURN
             $t -A DOCKER-USER -j RETURN
             $t -t nat -N DOCKER
             $t -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
             $t -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
             $t -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
             $t -t nat -A DOCKER -i docker0 -j RETURN\n"
        );
        for protocol in ["tcp", "udp"] {
            script += &format!(
                "$t -t nat -A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p {protocol} --dport {TO_PORT} -j MASQUERADE
                 $t -t nat -A DOCKER ! -i docker0 -p {protocol} --dport {PORT} -j DNAT --to-destination 172.17.0.2:{TO_PORT}
                 $t -A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p {protocol} --dport {TO_PORT} -j ACCEPT\n"
            );
        }
        self.sh(&script);
    }

    fn nftables(&self) {
        let rules = format!(
            "table ip docker {{
               map ports {{ type inet_proto . inet_service : ipv4_addr . inet_service;
                 elements = {{ tcp . {PORT} : 172.17.0.2 . {TO_PORT}, udp . {PORT} : 172.17.0.2 . {TO_PORT} }}; }};
               chain arriving {{ type nat hook prerouting priority dstnat;
                 fib daddr type local dnat ip to meta l4proto . th dport map @ports; }};
               chain leaving {{ type nat hook postrouting priority srcnat;
                 ip saddr 172.17.0.0/16 oifname != docker0 masquerade; }};
               chain forwarded {{ type filter hook forward priority filter; policy drop;
                 ct state established,related accept;
                 ct status dnat accept;
                 iifname docker0 oifname != docker0 accept; }};
             }}"
        );
        run(self.lab.host.command("nft").arg(rules));
    }

    fn proxy(&mut self) {
        for protocol in ["tcp", "udp"] {
            let script = format!(
                "exec docker-proxy -proto {protocol} -host-ip 0.0.0.0 -host-port {PORT} \
                 -container-ip 172.17.0.2 -container-port {TO_PORT} 3>/dev/null"
            );
            let child = self
                .lab
                .host
                .command("sh")
                .args(["-c", &script])
                .stdout(Stdio::null())
                .spawn()
                .expect("docker-proxy starts");
            self.proxies.push(child);
        }
        wait_until("docker-proxy to listen", || {
            let listening = run(self.lab.host.command("ss").args(["-Hlntu"]));
            let text = String::from_utf8_lossy(&listening.stdout).into_owned();
            text.matches(&format!(":{PORT} ")).count() >= 2
        });
        // Its users have the rule for containers that go out.
        self.sh("iptables-nft -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE");
    }

    fn datapath(&mut self, forwarding: &str) {
        let mut ports = String::new();
        for protocol in ["tcp", "udp"] {
            ports += &format!(
                "[[publish]]\nlisten = \"0.0.0.0:{PORT}\"\nto = \"172.17.0.2:{TO_PORT}\"\nprotocol = {protocol:?}\n"
            );
        }
        let keys = format!("forwarding = {forwarding:?}");
        self._datapath = Some(Datapath::start_with(&self.lab, &keys, &ports));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for proxy in &mut self.proxies {
            drop(proxy.kill());
            drop(proxy.wait());
        }
    }
}

/// Lets both sides know each other, so that nobody pays for ARP.
pub(super) fn warm(stage: &Stage) {
    for (from, to) in [
        (&stage.lab.container, "203.0.113.9"),
        (&stage.lab.host, "172.17.0.2"),
        (&stage.lab.host, "203.0.113.9"),
    ] {
        run(from.command("ping").args(["-c2", "-i0.05", "-W2", to]));
    }
}
