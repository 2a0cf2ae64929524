//! The cost of the host alone: frames handed in as a network card's driver would, on one CPU, counted where they
//! arrive.

use std::{os::fd::OwnedFd, time::Duration};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::{
    Plan,
    contender::{Contender, Stage, TO_PORT, warm},
    generator::{self, FRAME, Generator, IDENTIFICATION, Vary},
    report::{Better, Figure},
};
use crate::lab::{Netns, run};

/// What part of the frames must arrive for a figure to count.
const DELIVERED: f64 = 0.999;

/// One measurement at driver level.
struct Direction {
    name: &'static str,
    /// Where frames come in, and in whose namespace they end.
    interface: &'static str,
    source: ([u8; 4], u16),
    destination: ([u8; 4], u16),
    vary: Vary,
}

/// Measures both directions.
pub(super) fn measure(stage: &Stage, plan: &Plan) -> Vec<Figure> {
    if stage.contender == Contender::DockerProxy {
        // Its packets end in a socket: nothing to compare at this level.
        return Vec::new();
    }
    let (address, port) = stage.target();
    let address: std::net::Ipv4Addr = address.parse().expect("an address");
    let inward = Direction {
        name: "inward, driver level",
        interface: "eth0",
        source: ([198, 51, 100, 7], 4000),
        destination: (address.octets(), port),
        vary: Vary::Source,
    };
    let outward = Direction {
        name: "outward, driver level",
        interface: "vc",
        source: ([172, 17, 0, 2], 4000),
        destination: ([203, 0, 113, 9], 9),
        vary: Vary::Destination,
    };
    let mut figures = Vec::new();
    for (direction, sink) in [(inward, &stage.lab.container), (outward, &stage.lab.lan)] {
        if plan.wants(direction.name) {
            let value = one(stage, &direction, sink, plan.frames);
            figures.push((direction.name, "ns per packet", Better::Less, value));
        }
    }
    figures
}

fn one(stage: &Stage, direction: &Direction, sink: &Netns, frames: u32) -> f64 {
    count_and_drop(sink, direction);
    let macs = macs(stage, direction.interface);
    let frame = frame(direction, macs);
    let (interface, vary) = (direction.interface, direction.vary);
    let elapsed = stage.lab.host.enter(move || {
        pin(0);
        let _ready: OwnedFd = generator::prepare(interface).expect("XDP on the interface");
        let generator = Generator::new(&frame, vary, 1).expect("the generator");
        let index = generator::ifindex(interface).expect("the interface");
        generator
            .send(index, frames / 10)
            .expect("frames to warm up");
        // What is learned by way of events is known by then.
        std::thread::sleep(Duration::from_millis(200));
        generator
            .send(index, frames / 10)
            .expect("frames to warm up");
        generator.send(index, frames).expect("frames")
    });
    let sent = f64::from(frames / 10 * 2 + frames);
    let arrived = arrived(sink) as f64;
    assert!(
        arrived >= sent * DELIVERED && arrived <= sent,
        "{}, {}: of {sent} frames {arrived} arrived",
        stage.contender.name(),
        direction.name
    );
    elapsed.as_nanos() as f64 / f64::from(frames)
}

/// Binds the calling thread to a CPU.
pub(super) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &set).expect("binding to a CPU");
}

/// What arrives is counted, and dropped before it costs more: the same for everyone.
fn count_and_drop(sink: &Netns, direction: &Direction) {
    let port = if direction.interface == "eth0" {
        TO_PORT
    } else {
        direction.destination.1
    };
    let rules = format!(
        "table ip sink {{ chain pre {{ type filter hook prerouting priority raw;
           udp dport {port} counter drop; }}; }}"
    );
    run(sink.command("nft").arg(rules));
}

fn arrived(sink: &Netns) -> u64 {
    let rules = run(sink.command("nft").args(["list", "table", "ip", "sink"]));
    run(sink.command("nft").args(["delete", "table", "ip", "sink"]));
    let text = String::from_utf8_lossy(&rules.stdout).into_owned();
    let mut words = text
        .split_whitespace()
        .skip_while(|word| *word != "packets");
    words
        .nth(1)
        .and_then(|count| count.parse().ok())
        .expect("the sink's counter")
}

/// The addresses of a frame that arrives there: the destination's, then the sender's.
fn macs(stage: &Stage, interface: &str) -> [[u8; 6]; 2] {
    warm(stage);
    let mac = |netns: &Netns, interface: &str| {
        let shown = run(netns.command("ip").args(["-o", "link", "show", interface]));
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let mut words = text
            .split_whitespace()
            .skip_while(|word| *word != "link/ether");
        let text = words.nth(1).expect("an Ethernet address");
        let mut bytes = [0; 6];
        for (place, part) in bytes.iter_mut().zip(text.split(':')) {
            *place = u8::from_str_radix(part, 16).expect("a byte");
        }
        bytes
    };
    let lab = &stage.lab;
    if interface == "eth0" {
        [mac(&lab.host, "eth0"), mac(&lab.lan, "eth0")]
    } else {
        [mac(&lab.host, "docker0"), mac(&lab.container, "eth0")]
    }
}

/// A UDP datagram in the smallest frame, its identification the complement of the address that varies.
fn frame(direction: &Direction, macs: [[u8; 6]; 2]) -> Vec<u8> {
    let payload = [0_u8; FRAME - 14 - 20 - 8];
    let mut ip = etherparse::Ipv4Header::new(
        (payload.len() + 8) as u16,
        64,
        etherparse::IpNumber::UDP,
        direction.source.0,
        direction.destination.0,
    )
    .expect("a header");
    let varies = match direction.vary {
        Vary::Source => direction.source.0,
        Vary::Destination => direction.destination.0,
    };
    ip.identification = !u16::from_be_bytes([varies[2], varies[3]]);
    ip.header_checksum = ip.calc_header_checksum();
    let mut bytes = Vec::with_capacity(FRAME);
    bytes.extend(macs[0]);
    bytes.extend(macs[1]);
    bytes.extend([8, 0]);
    bytes.extend(ip.to_bytes());
    debug_assert_eq!(
        bytes.get(IDENTIFICATION..IDENTIFICATION + 2),
        Some(&ip.identification.to_be_bytes()[..])
    );
    for word in [
        direction.source.1,
        direction.destination.1,
        payload.len() as u16 + 8,
        0,
    ] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(payload);
    bytes
}
