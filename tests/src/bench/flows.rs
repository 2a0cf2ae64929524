//! How cost grows with live flows.

use std::time::Instant;

use super::{
    contender::Contender,
    driver::{self, Source},
    results::{Better, Figure, Measure},
    stage::Stage,
};
use crate::lab::{Cleanup, run};

const ONE: Measure = Measure::new("packets of one of them", "ns per packet", Better::Less);
const ALL: Measure = Measure::new("packets of all in turn", "ns per packet", Better::Less);

/// Of that much memory as the entries of one direction take.
const LOAD: Measure = Measure::new(
    "a load from as much memory, after the one before",
    "ns",
    Better::Less,
);

/// How many flows there are.
pub(super) const SIZES: [u32; 4] = [1, 1 << 10, 1 << 16, 1 << 20];

/// datapath's room for them.
pub(super) const CONFIG: &str = "[conntrack]\nmax_flows = 1200000\n";

/// The kernel's own connection tracking with room for as many flows: its bounds are the machine's, and are put back
/// when this ends.
pub(super) struct Room {
    _before: Cleanup,
}

impl Room {
    pub(super) fn new() -> Self {
        let names = ["nf_conntrack_max", "nf_conntrack_buckets"];
        let read = |name: &str| {
            let shown =
                run(std::process::Command::new("sysctl")
                    .args(["-n", &format!("net.netfilter.{name}")]));
            String::from_utf8_lossy(&shown.stdout).trim().to_owned()
        };
        let before = names.map(|name| format!("net.netfilter.{name}={}", read(name)));
        let cleanup = Cleanup::stand_by(&format!("sysctl -qw {}", before.join(" ")));
        let wanted = names.map(|name| format!("net.netfilter.{name}=1400000"));
        run(std::process::Command::new("sysctl").arg("-qw").args(wanted));
        Self { _before: cleanup }
    }
}

/// Measures with so many live flows, each answered once. Sizes are powers of two, and ascend.
pub(super) fn measure(stage: &Stage, sizes: &[u32], frames: u32) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut source = Source::new(stage, driver::inward(stage.contender));
    for size in sizes.iter().copied() {
        let at = u64::from(size);
        source.open(size);
        source.warm_up(frames / 10);
        figures.push(ONE.at(at, source.cost(1, frames)));
        figures.push(ALL.at(at, source.cost(size, frames.max(size))));
        if stage.contender == Contender::Datapath {
            let loads = frames.max(size);
            let took = stage.lab.host.enter(move || load(size, loads));
            figures.push(LOAD.at(at, took));
        }
    }
    source.check();
    figures
}

/// Nanoseconds for a load whose address only the load before it tells, from memory for so many entries, in an order that
/// no processor foresees. It is what the first look at an entry costs, wherever in the caches or behind them it is.
fn load(entries: u32, loads: u32) -> f64 {
    /// Bytes that the kernel takes for an entry of IPv4's, and so between two of them.
    const ENTRY: usize = 192;
    const WORDS: usize = ENTRY / size_of::<usize>();
    let entries = entries as usize;
    let mut memory = vec![0_usize; entries * WORDS];
    // One cycle through all of them (Sattolo's shuffle), by a generator of Lehmer's.
    let mut order: Vec<usize> = (0..entries).collect();
    let mut random = 1_u128 << 64 | 1;
    for last in (1..entries).rev() {
        random = random.wrapping_mul(0xda94_2042_e4dd_58b5);
        order.swap(last, (random >> 64) as usize % last);
    }
    for (from, to) in order.iter().zip(order.iter().cycle().skip(1)) {
        memory[from * WORDS] = to * WORDS;
    }
    drop(order);
    driver::pin(0);
    let start = Instant::now();
    let mut at = 0;
    for _ in 0..loads {
        at = memory[at];
    }
    let elapsed = start.elapsed();
    std::hint::black_box(at);
    elapsed.as_nanos() as f64 / f64::from(loads)
}
