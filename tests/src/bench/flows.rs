//! How cost grows with live flows.

use super::{
    driver::{self, Source},
    results::{Better, Figure, Measure},
    stage::Stage,
};
use crate::lab::{Cleanup, run};

const ONE: Measure = Measure::new("packets of one of them", "ns per packet", Better::Less);
const ALL: Measure = Measure::new("packets of all in turn", "ns per packet", Better::Less);

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
    }
    source.check();
    figures
}
