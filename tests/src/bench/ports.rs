//! How cost grows with published ports.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    process::Stdio,
    time::{Duration, Instant},
};

use super::{
    contender::Contender,
    driver, peers,
    results::{Better, Figure, Measure},
    stage::{ENDPOINT, Stage},
    users,
};
use crate::lab::run;

/// The first of the ports; the container has each under the same number.
const FIRST: u16 = 20_000;
/// How many of them clients use, spread over all.
const USED: u16 = 16;

const PACKET: Measure = Measure::new("packets of a flow", "ns per packet", Better::Less);
const CONNECTIONS: Measure = Measure::new("new connections", "per second", Better::More);
const ONE_MORE: Measure = Measure::new("one more port", "ms", Better::Less);
const PUBLISH: Measure = Measure::new("publish all in one go", "ms", Better::Less);
const WITHDRAW: Measure = Measure::new("withdraw all in one go", "ms", Better::Less);
const MEMORY: Measure = Measure::new("memory of all", "KiB", Better::Less);
const PROCESSES: Measure = Measure::new("processes", "", Better::Less);

/// How many ports there are, beside the stage's own two.
pub(super) const SIZES: [u16; 4] = [1, 100, 1_000, 10_000];

/// Measures with so many ports, then with more. Sizes ascend.
pub(super) fn measure(
    stage: &mut Stage,
    sizes: &[u16],
    frames: u32,
    time: Duration,
) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut published = 0;
    for size in sizes.iter().copied() {
        // A process for each port: more than a hundred say nothing new, and take the machine's memory.
        if stage.contender == Contender::DockerProxy && size > 100 {
            break;
        }
        let at = u64::from(size);
        if size - published > 1 {
            change(stage, FIRST + published..=FIRST + size - 2, true);
        }
        let started = Instant::now();
        publish_one(stage, FIRST + size - 1);
        figures.push(ONE_MORE.at(at, milliseconds(started)));
        published = size;
        if stage.contender.forwards() {
            let traffic = driver::inward(stage.contender);
            figures.push(PACKET.at(at, driver::flow(stage, traffic, frames)));
        }
        figures.push(CONNECTIONS.at(at, connections(stage, size, time)));
    }
    let at = u64::from(published);
    let all = FIRST..=FIRST + published - 1;
    if stage.contender == Contender::DockerProxy {
        // Beside those of the stage's own two ports.
        figures.push(PROCESSES.at(at, stage.proxies.len() as f64 - 2.0));
        let share = f64::from(published) / stage.proxies.len() as f64;
        figures.push(MEMORY.at(at, kib(peers::process_memory(stage)) * share));
    }
    let started = Instant::now();
    change(stage, all.clone(), false);
    figures.push(WITHDRAW.at(at, milliseconds(started)));
    let before = stage.contender.is_ours().then(|| stage.map_memory());
    let started = Instant::now();
    change(stage, all, true);
    figures.push(PUBLISH.at(at, milliseconds(started)));
    if let Some(before) = before {
        figures.push(PROCESSES.at(at, 0.0));
        let grown = stage.map_memory().saturating_sub(before);
        figures.push(MEMORY.at(at, kib(grown)));
    }
    figures
}

fn milliseconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1000.0
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

/// New connections, to ports spread over all that are published.
fn connections(stage: &Stage, size: u16, time: Duration) -> f64 {
    let used = size.min(USED);
    let ports: Vec<u16> = (0..used)
        .map(|number| FIRST + (u32::from(number) * u32::from(size) / u32::from(used)) as u16)
        .collect();
    let host = stage.target().0.parse().expect("an address");
    let to = ports
        .iter()
        .map(|port| SocketAddr::new(host, *port))
        .collect();
    let server = users::tcp_server(&stage.lab.container, &ports, users::answer);
    let value = users::connections(&stage.lab.lan, to, time);
    drop(server);
    value
}

/// Publishes or withdraws all of these in one go: datapath in one request of its API.
fn change(stage: &mut Stage, ports: RangeInclusive<u16>, publish: bool) {
    if !stage.contender.is_ours() {
        return peers::change(stage, ports, publish);
    }
    let count = ports.len();
    let body: Vec<_> = ports
        .map(|port| {
            let listen = format!("0.0.0.0:{port}");
            if publish {
                serde_json::json!({ "listen": listen, "to": format!("{ENDPOINT}:{port}") })
            } else {
                serde_json::json!({ "listen": listen })
            }
        })
        .collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    serde_json::to_writer(&file, &body).expect("the request");
    let method = if publish { "POST" } else { "DELETE" };
    let answer = run(stage
        .lab
        .host
        .command("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail-with-body",
            "--unix-socket",
        ])
        .arg(stage.service().api_socket())
        .args([
            "--request",
            method,
            "--header",
            "content-type: application/json",
        ])
        .arg("--data-binary")
        .arg(format!("@{}", file.path().display()))
        .arg("http://datapath/v1/ports")
        .stdin(Stdio::null()));
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    assert_eq!(answer["ports"], count, "ports in the answer");
}

/// Publishes one port as its users do.
fn publish_one(stage: &mut Stage, port: u16) {
    if !stage.contender.is_ours() {
        return peers::publish_one(stage, port);
    }
    let ports = format!("{port}:{port}");
    run(&mut stage
        .service()
        .command(&["publish", &ports, "--to", ENDPOINT]));
}
