//! What datapath takes the place of, with the rules that Docker 20.10 writes, and the strongest that nftables offers.

use std::{
    io::Write as _,
    ops::RangeInclusive,
    process::{Command, Stdio},
};

use super::{
    contender::Contender,
    stage::{ENDPOINT, PORT, Stage, TO_PORT},
};
use crate::lab::wait_until;

/// Sets up a peer with one port published over TCP and UDP; docker-proxy without one.
pub(super) fn prepare(stage: &Stage) {
    match tool(stage.contender) {
        Some("nft") => nftables(stage),
        Some(tool) => iptables(stage, tool),
        // Its users have the rule for containers that go out.
        None => stage
            .sh("iptables-nft -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"),
    }
}

/// The program that writes a peer's rules.
const fn tool(contender: Contender) -> Option<&'static str> {
    match contender {
        Contender::IptablesLegacy => Some("iptables-legacy"),
        Contender::IptablesNft => Some("iptables-nft"),
        Contender::NftablesMap => Some("nft"),
        Contender::Direct
        | Contender::Redirect
        | Contender::Routed
        | Contender::DockerProxy
        | Contender::DatapathKernel
        | Contender::Datapath
        | Contender::DatapathXdp => None,
    }
}

/// Docker's chains.
fn iptables(stage: &Stage, tool: &str) {
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
        for (table, rule) in rules(protocol, PORT, TO_PORT) {
            script += &format!("$t -t {table} -A {rule}\n");
        }
    }
    stage.sh(&script);
}

/// The three rules of one published port: table and rule.
fn rules(protocol: &str, port: u16, to: u16) -> [(&'static str, String); 3] {
    [
        (
            "nat",
            format!(
                "POSTROUTING -s {ENDPOINT}/32 -d {ENDPOINT}/32 -p {protocol} -m {protocol} --dport {to} -j MASQUERADE"
            ),
        ),
        (
            "nat",
            format!(
                "DOCKER ! -i docker0 -p {protocol} -m {protocol} --dport {port} -j DNAT --to-destination {ENDPOINT}:{to}"
            ),
        ),
        (
            "filter",
            format!(
                "DOCKER -d {ENDPOINT}/32 ! -i docker0 -o docker0 -p {protocol} -m {protocol} --dport {to} -j ACCEPT"
            ),
        ),
    ]
}

/// One map for all ports, and what belongs to it.
fn nftables(stage: &Stage) {
    stage.sh(&format!(
        "nft 'table ip docker {{
           map ports {{ type inet_proto . inet_service : ipv4_addr . inet_service;
             elements = {{ tcp . {PORT} : {ENDPOINT} . {TO_PORT}, udp . {PORT} : {ENDPOINT} . {TO_PORT} }}; }};
           chain arriving {{ type nat hook prerouting priority dstnat;
             fib daddr type local dnat ip to meta l4proto . th dport map @ports; }};
           chain leaving {{ type nat hook postrouting priority srcnat;
             ip saddr 172.17.0.0/16 oifname != docker0 masquerade;
             ip saddr 172.17.0.0/16 oifname docker0 ct status dnat masquerade; }};
           chain forwarded {{ type filter hook forward priority filter; policy drop;
             ct state established,related accept;
             ct status dnat accept;
             iifname docker0 oifname != docker0 accept; }};
         }}'"
    ));
}

/// Starts a docker-proxy, bound to the CPU that all is measured on, and waits until it listens.
pub(super) fn start_proxy(stage: &mut Stage, protocol: &str, port: u16, to: u16) {
    let script = format!(
        "exec taskset -c 0 docker-proxy -proto {protocol} -host-ip 0.0.0.0 -host-port {port} \
         -container-ip {ENDPOINT} -container-port {to} 3>/dev/null"
    );
    let child = stage
        .lab
        .host
        .command("sh")
        .args(["-c", &script])
        .stdout(Stdio::null())
        .spawn()
        .expect("docker-proxy starts");
    stage.proxies.push(child);
    // An open socket of the host's namespace: what `ss` asks the kernel for as well, without a process each time.
    let table = format!("/proc/{}/net/{protocol}", stage.proxies[0].id());
    let families = [table.clone(), format!("{table}6")];
    let listens = format!(":{port:04X} ");
    wait_until("docker-proxy to listen", || {
        families.iter().any(|table| {
            std::fs::read_to_string(table).is_ok_and(|sockets| sockets.contains(&listens))
        })
    });
}

/// Publishes or withdraws TCP ports that the container has under the same numbers, all of them at once: in one call
/// of the peer's tool, which is more than Docker does for it.
pub(super) fn change(stage: &mut Stage, ports: RangeInclusive<u16>, publish: bool) {
    match tool(stage.contender) {
        Some("nft") => {
            let elements: Vec<_> = ports
                .map(|port| format!("tcp . {port} : {ENDPOINT} . {port}"))
                .collect();
            let verb = if publish { "add" } else { "delete" };
            let script = format!(
                "{verb} element ip docker ports {{ {} }}\n",
                elements.join(", ")
            );
            feed(stage.lab.host.command("nft").args(["-f", "-"]), &script);
        }
        Some(tool) => {
            let verb = if publish { "-A" } else { "-D" };
            let (mut nat, mut filter) = (String::from("*nat\n"), String::from("*filter\n"));
            for (table, rule) in ports.flat_map(|port| rules("tcp", port, port)) {
                let text = if table == "nat" {
                    &mut nat
                } else {
                    &mut filter
                };
                *text += &format!("{verb} {rule}\n");
            }
            let script = format!("{nat}COMMIT\n{filter}COMMIT\n");
            let restore = format!("{tool}-restore");
            feed(stage.lab.host.command(&restore).arg("--noflush"), &script);
        }
        None if publish => {
            for port in ports {
                start_proxy(stage, "tcp", port, port);
            }
        }
        None => {
            let count = ports.len();
            for mut proxy in stage.proxies.split_off(stage.proxies.len() - count) {
                proxy.kill().expect("docker-proxy runs");
                proxy.wait().expect("docker-proxy ends");
            }
        }
    }
}

/// Publishes one TCP port as Docker does it: a call for each rule, a process for each port.
pub(super) fn publish_one(stage: &mut Stage, port: u16) {
    match tool(stage.contender) {
        Some(tool) if tool != "nft" => {
            for (table, rule) in rules("tcp", port, port) {
                let mut command = stage.lab.host.command(tool);
                command.args(["-t", table, "-A"]).args(rule.split(' '));
                crate::lab::run(&mut command);
            }
        }
        _ => change(stage, port..=port, true),
    }
}

/// Bytes that the peer's processes take, as the kernel shares them out.
pub(super) fn process_memory(stage: &Stage) -> u64 {
    let share = |pid: u32| {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(path).expect("the process's memory");
        let mut words = text.split_whitespace().skip_while(|word| *word != "Pss:");
        words
            .nth(1)
            .and_then(|number| number.parse::<u64>().ok())
            .expect("a size")
            * 1024
    };
    stage.proxies.iter().map(|proxy| share(proxy.id())).sum()
}

fn feed(command: &mut Command, script: &str) {
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .expect("the peer's tool starts");
    let mut input = child.stdin.take().expect("its input");
    input.write_all(script.as_bytes()).expect("its script");
    drop(input);
    let status = child.wait().expect("its end");
    assert!(status.success(), "{command:?}: {status}");
}
