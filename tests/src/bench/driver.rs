//! The cost of the host alone: frames handed in as a network card's driver would, on one CPU, counted where they
//! arrive.

use std::{net::Ipv4Addr, os::fd::OwnedFd, process::Child, time::Duration};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    bpf,
    contender::Contender,
    generator::{self, FRAME, Generator, IDENTIFICATION, Then, Vary},
    results::{Better, Figure, Measure},
    sink::{Arrives, Sink},
    stage::{ENDPOINT, HOST, PORT, Stage, TO_PORT},
};
use crate::lab::{Netns, run};

/// What part of the frames must arrive for a figure to count.
const DELIVERED: f64 = 0.999;
/// Flows that are opened and answered in one go: the tables of half-open flows hold more.
const AT_A_TIME: u32 = 1 << 14;
/// Frames of another host outside, which is reached by way of the LAN host.
const CLIENT: ([u8; 4], u16) = ([198, 51, 100, 7], 4000);
/// A server outside, and the endpoint's port that asks it.
const SERVER: ([u8; 4], u16) = ([203, 0, 113, 9], 9);
const ASKING: u16 = 4000;

const INWARD: Measure = Measure::new("inward", "ns per packet", Better::Less);
const OUTWARD: Measure = Measure::new("outward", "ns per packet", Better::Less);

/// Frames of one direction of a flow.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Where frames come in.
    interface: &'static str,
    source: ([u8; 4], u16),
    destination: ([u8; 4], u16),
    vary: Vary,
}

/// Frames to be measured, and their answers, which make a flow an established one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    name: &'static str,
    way: Way,
    answer: Way,
    /// How the frames look where they must arrive, so that a wrong translation is not counted.
    arrives: Arrives,
}

/// To the published port.
pub(super) fn inward(contender: Contender) -> Traffic {
    let (host, port) = if contender.translates() {
        (octets(HOST), PORT)
    } else {
        (octets(ENDPOINT), TO_PORT)
    };
    Traffic {
        name: "inward",
        way: Way {
            interface: "eth0",
            source: CLIENT,
            destination: (host, port),
            vary: Vary::Source,
        },
        answer: Way {
            interface: "vc",
            source: (octets(ENDPOINT), TO_PORT),
            destination: CLIENT,
            vary: Vary::Destination,
        },
        arrives: Arrives {
            source: (CLIENT.0.into(), 16),
            destination: octets(ENDPOINT).into(),
            port: TO_PORT,
        },
    }
}

/// From the endpoint to a server outside.
pub(super) fn outward(contender: Contender) -> Traffic {
    let shown = if contender.translates() {
        HOST
    } else {
        ENDPOINT
    };
    Traffic {
        name: "outward",
        way: Way {
            interface: "vc",
            source: (octets(ENDPOINT), ASKING),
            destination: SERVER,
            vary: Vary::Destination,
        },
        answer: Way {
            interface: "eth0",
            source: SERVER,
            destination: (octets(shown), ASKING),
            vary: Vary::Source,
        },
        arrives: Arrives {
            source: (octets(shown).into(), 32),
            destination: SERVER.0.into(),
            port: SERVER.1,
        },
    }
}

/// Both directions, one flow.
pub(super) fn measure(stage: &Stage, frames: u32) -> Vec<Figure> {
    let mut figures = vec![INWARD.figure(flow(stage, inward(stage.contender), frames))];
    if stage.contender.answers() {
        figures.push(OUTWARD.figure(flow(stage, outward(stage.contender), frames)));
    }
    figures
}

/// Nanoseconds for a packet of one established flow.
pub(super) fn flow(stage: &Stage, traffic: Traffic, frames: u32) -> f64 {
    let mut source = Source::new(stage, traffic);
    source.open(1);
    source.warm_up(frames / 10);
    let cost = source.cost(1, frames);
    source.check();
    cost
}

/// Where a measurement's frames come from, and where they are counted.
pub(super) struct Source<'a> {
    stage: &'a Stage,
    traffic: Traffic,
    /// Ethernet addresses of both ways' frames.
    macs: [[[u8; 6]; 2]; 2],
    sent: u64,
    /// Where this way's frames are counted, and where the answers end.
    sinks: [Sink; 2],
    /// Keeps interfaces ready to take frames.
    _ready: Vec<OwnedFd>,
}

impl<'a> Source<'a> {
    pub(super) fn new(stage: &'a Stage, traffic: Traffic) -> Self {
        let ends = match traffic.way.interface {
            "eth0" => [&stage.lab.container, &stage.lab.lan],
            _ => [&stage.lab.lan, &stage.lab.container],
        };
        let sinks = ends.map(|netns| {
            netns.enter(|| {
                let index = generator::ifindex("eth0").expect("the interface");
                Sink::open(index, traffic.arrives).expect("a sink (it needs TCX, Linux 6.6)")
            })
        });
        // A program of the project's makes its interface ready itself.
        let interfaces: &[&str] = if stage.contender == Contender::DatapathXdp {
            &["vc"]
        } else {
            &["vc", "eth0"]
        };
        let ready = interfaces
            .iter()
            .map(|interface| {
                stage.lab.host.enter(|| {
                    let index = generator::ifindex(interface).expect("the interface");
                    generator::prepare(index).expect("XDP on the interface")
                })
            })
            .collect();
        Self {
            stage,
            traffic,
            macs: [traffic.way, traffic.answer].map(|way| macs(stage, way.interface)),
            sent: 0,
            sinks,
            _ready: ready,
        }
    }

    /// Opens so many flows (a power of two), and has each answered.
    pub(super) fn open(&mut self, flows: u32) {
        let ways = [self.traffic.way, self.traffic.answer];
        let answered = self.stage.contender.answers();
        let generators: Vec<_> = ways
            .into_iter()
            .zip(self.macs)
            .map(|(way, macs)| self.generator(way, macs, flows))
            .collect();
        self.stage.lab.host.enter(move || {
            pin(0);
            let indices = ways.map(|way| generator::ifindex(way.interface).expect("an interface"));
            let mut left = flows;
            while left > 0 {
                let count = left.min(AT_A_TIME);
                for (generator, index) in generators
                    .iter()
                    .zip(indices)
                    .take(1 + usize::from(answered))
                {
                    generator
                        .send(index, count)
                        .expect("frames that open flows");
                }
                left -= count;
            }
        });
        self.sent += u64::from(flows);
    }

    /// Sends frames of the first flow until what is learned by way of events is known.
    pub(super) fn warm_up(&mut self, frames: u32) {
        self.cost(1, frames);
        std::thread::sleep(Duration::from_millis(200));
        self.cost(1, frames);
    }

    /// Nanoseconds for a packet, of `flows` flows in turn.
    pub(super) fn cost(&mut self, flows: u32, frames: u32) -> f64 {
        self.timed(flows, frames, || None)
    }

    /// The same of one flow, while a process looks on that is started before and interrupted afterwards.
    pub(super) fn cost_watched(
        &mut self,
        frames: u32,
        watch: impl FnOnce() -> Child + Send,
    ) -> f64 {
        self.timed(1, frames, || Some(watch()))
    }

    fn timed(
        &mut self,
        flows: u32,
        frames: u32,
        watch: impl FnOnce() -> Option<Child> + Send,
    ) -> f64 {
        let way = self.traffic.way;
        let generator = self.generator(way, self.macs[0], flows);
        let elapsed = self.stage.lab.host.enter(move || {
            let watcher = watch();
            pin(0);
            let index = generator::ifindex(way.interface).expect("the interface");
            let elapsed = generator.send(index, frames).expect("frames");
            if let Some(watcher) = watcher {
                end(watcher);
            }
            elapsed
        });
        self.sent += u64::from(frames);
        elapsed.as_nanos() as f64 / f64::from(frames)
    }

    /// Sees that all of them arrived as they should.
    pub(super) fn check(self) {
        let arrived = self.sinks[0].arrived().expect("the sink's counter");
        let sent = self.sent;
        assert!(
            arrived as f64 >= sent as f64 * DELIVERED && arrived <= sent,
            "{}, {}: of {sent} frames {arrived} arrived",
            self.stage.contender.name(),
            self.traffic.name
        );
    }

    fn generator(&self, way: Way, macs: [[u8; 6]; 2], flows: u32) -> Generator {
        let contender = self.stage.contender;
        let (frame, then) = match (contender, way.interface) {
            (Contender::Redirect, "eth0") => {
                let lab = &self.stage.lab;
                let macs = [mac(&lab.container, "eth0"), mac(&lab.host, "docker0")];
                let index = lab.host.enter(|| generator::ifindex("vc"));
                let then = Then::Redirect(index.expect("the endpoint's interface"));
                (frame(way, macs), then)
            }
            (Contender::DatapathXdp, "eth0") => {
                let program = attached(&self.stage.lab.host, "eth0");
                (frame(way, macs), Then::Program(program))
            }
            _ => (frame(way, macs), Then::Stack),
        };
        Generator::new(&frame, way.vary, flows, &then).expect("the generator")
    }
}

/// Ends one that looks on, so that it writes down what it saw.
pub(super) fn end(mut watcher: Child) {
    let pid = Pid::from_raw(watcher.id().cast_signed());
    kill(pid, Signal::SIGINT).expect("a process that looks on");
    watcher.wait().expect("its end");
}

/// The XDP program at an interface.
fn attached(netns: &Netns, interface: &str) -> OwnedFd {
    let shown = run(netns
        .command("ip")
        .args(["-j", "-d", "link", "show", interface]));
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("ip's JSON");
    let id = shown[0]["xdp"]["prog"]["id"]
        .as_u64()
        .expect("an XDP program on the interface");
    bpf::by_id(id as u32).expect("the program")
}

/// Binds the calling thread to a CPU.
pub(super) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &set).expect("binding to a CPU");
}

/// The addresses of a frame that arrives there: the destination's, then the sender's.
fn macs(stage: &Stage, interface: &str) -> [[u8; 6]; 2] {
    let lab = &stage.lab;
    if interface == "eth0" {
        [mac(&lab.host, "eth0"), mac(&lab.lan, "eth0")]
    } else {
        [mac(&lab.host, "docker0"), mac(&lab.container, "eth0")]
    }
}

/// An interface's Ethernet address.
pub(super) fn mac(netns: &Netns, interface: &str) -> [u8; 6] {
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
}

fn octets(address: &str) -> [u8; 4] {
    let address: Ipv4Addr = address.parse().expect("an address");
    address.octets()
}

/// A UDP datagram in the smallest frame, its identification the complement of the address that varies.
fn frame(way: Way, macs: [[u8; 6]; 2]) -> Vec<u8> {
    let payload = [0_u8; FRAME - 14 - 20 - 8];
    let mut ip = etherparse::Ipv4Header::new(
        (payload.len() + 8) as u16,
        64,
        etherparse::IpNumber::UDP,
        way.source.0,
        way.destination.0,
    )
    .expect("a header");
    let varies = match way.vary {
        Vary::Source => way.source.0,
        Vary::Destination => way.destination.0,
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
    for word in [way.source.1, way.destination.1, payload.len() as u16 + 8, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(payload);
    bytes
}
