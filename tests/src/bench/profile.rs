//! Where the time of a packet goes: the CPU is looked at many thousand times a second while packets pass, and what it
//! was found in is summed up by what the kernel was doing there. The clock's interrupts serve where a machine has no
//! counters of its own (perf's `cpu-clock`).

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{
    contender::Contender,
    driver::{self, Source, Traffic},
    results::{Better, Figure, Measure},
    stage::Stage,
    users,
};
use crate::lab::run;

/// How often the CPU is looked at, in a second.
const FREQUENCY: &str = "9973";

/// How long it takes until it is looked at.
const BEGINNING: Duration = Duration::from_millis(500);

/// All that happens to a frame happens in the thread that hands it in, or in the softirqs' own; what happens to a
/// connection in its ends' threads too, which are this process's own, or docker-proxy's.
const THREADS: &str = "datapath-bench,ksoftirqd/0,docker-proxy";

/// What the kernel does with a packet. A symbol belongs to the first that has the beginning of its name.
const WORK: [(&str, &[&str]); 7] = [
    (
        "maps",
        &[
            "htab_",
            "__htab_",
            "lookup_",
            "trie_",
            "array_",
            "memcmp",
            "__pi_memcmp",
            "dev_map_",
            "__dev_map_",
        ],
    ),
    (
        "helpers",
        &[
            "bpf_l4_csum",
            "bpf_csum",
            "inet_proto_csum",
            "bpf_check_mtu",
            "bpf_skb_",
            "sk_skb_",
            "skb_ensure_writable",
            "ktime_get",
            "bpf_ktime",
            "bpf_redirect",
            "bpf_xdp_redirect",
        ],
    ),
    (
        "redirect",
        &[
            "skb_do_redirect",
            "__bpf_redirect",
            "__bpf_tx",
            "dev_get_by_index",
            "xdp_do_redirect",
            "__xdp_do_redirect",
            "bq_",
            "skb_scrub",
            "veth_peer_dev",
            "tcx_run",
            "__dev_flush",
            "xdp_do_flush",
        ],
    ),
    (
        "routing",
        &[
            "ip_forward",
            "ip_route",
            "ip_rcv_finish",
            "ip_finish",
            "__ip_finish",
            "ip_output",
            "fib_",
            "neigh_",
            "__neigh",
            "br_",
            "ip_sabotage",
            "ip_mtu",
            "dst_",
            "ip_sublist",
        ],
    ),
    (
        "netfilter",
        &[
            "nf_",
            "nft_",
            "__nf_",
            "ipt_",
            "iptable_",
            "xt_",
            "hash_conntrack",
            "udp_packet",
            "get_unique",
            "netfilter",
        ],
    ),
    (
        "devices",
        &[
            "veth_",
            "__dev_queue",
            "dev_queue",
            "dev_hard",
            "netif_",
            "__netif",
            "napi_",
            "process_backlog",
            "enqueue_to_backlog",
            "eth_",
            "gro_",
            "dev_gro",
            "inet_gro",
            "udp4_gro",
            "udp_gro",
            "skb_network_protocol",
            "validate_xmit",
            "ip_rcv",
            "net_rx",
            "__napi",
            "is_skb_forwardable",
            "sch_",
            "passthru",
            "tcf_",
        ],
    ),
    (
        "buffers",
        &[
            "__build_skb",
            "build_skb",
            "__xdp_build",
            "xdp_build",
            "skb_",
            "__skb",
            "kfree",
            "kmem",
            "__kmem",
            "__slab",
            "___slab",
            "slab_",
            "page_pool",
            "xdp_return",
            "__xdp_return",
            "consume_skb",
            "sk_skb_reason",
            "page_frag",
            "free_",
            "__free",
            "memset",
            "__pi_mem",
            "memcpy",
            "__memcg",
            "memcg",
            "mod_memcg",
            "get_page",
        ],
    ),
];

/// The programs, each of [`WORK`], and the rest.
const KINDS: usize = WORK.len() + 2;

/// One way's measures, in that order.
macro_rules! measures {
    ($way:literal, $rest:literal, $unit:literal) => {
        [
            Measure::new(concat!($way, ": the programs"), $unit, Better::Less),
            Measure::new(concat!($way, ": map lookups"), $unit, Better::Less),
            Measure::new(concat!($way, ": helpers"), $unit, Better::Less),
            Measure::new(concat!($way, ": redirecting"), $unit, Better::Less),
            Measure::new(concat!($way, ": routing, bridging"), $unit, Better::Less),
            Measure::new(concat!($way, ": netfilter"), $unit, Better::Less),
            Measure::new(concat!($way, ": devices, receiving"), $unit, Better::Less),
            Measure::new(concat!($way, ": buffers"), $unit, Better::Less),
            Measure::new(concat!($way, ": ", $rest), $unit, Better::Less),
        ]
    };
}

const INWARD: [Measure; KINDS] = measures!("inward", "generator, other", "ns per packet");
const OUTWARD: [Measure; KINDS] = measures!("outward", "generator, other", "ns per packet");
const CONNECTIONS: [Measure; KINDS] =
    measures!("connections", "sockets, processes", "µs per connection");

/// Whether the machine's kernel and `perf` agree on looking.
pub(super) fn is_possible() -> bool {
    Command::new("perf")
        .args(["record", "-q", "-e", "cpu-clock", "-o", "/dev/null", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Both directions, one flow; then connections from outside.
pub(super) fn measure(stage: &Stage, frames: u32, time: Duration) -> Vec<Figure> {
    let contender = stage.contender;
    let mut figures = Vec::new();
    if contender.forwards() {
        figures.extend(way(stage, driver::inward(contender), &INWARD, frames));
        if contender.answers() {
            figures.extend(way(stage, driver::outward(contender), &OUTWARD, frames));
        }
    }
    if contender.answers() {
        figures.extend(connections(stage, time));
    }
    figures
}

/// What is looked at: the limits, the alternatives, and what is ours.
pub(super) const fn is_of_interest(contender: Contender) -> bool {
    !matches!(
        contender,
        Contender::IptablesNft | Contender::DatapathKernel
    )
}

fn way(stage: &Stage, traffic: Traffic, measures: &[Measure], frames: u32) -> Vec<Figure> {
    let mut source = Source::new(stage, traffic);
    source.open(1);
    source.warm_up(frames / 10);
    let watch = Watch::new();
    let cost = source.cost_watched(frames, || watch.begin());
    source.check();
    watch.figures(cost, measures)
}

fn connections(stage: &Stage, time: Duration) -> Vec<Figure> {
    let watch = Watch::new();
    let watcher = watch.begin();
    let rate = users::inward_connections(stage, time);
    driver::end(watcher);
    watch.figures(1e6 / rate, &CONNECTIONS)
}

/// A look at the CPU that packets pass on, and what was seen.
struct Watch(tempfile::NamedTempFile);

impl Watch {
    fn new() -> Self {
        Self(tempfile::NamedTempFile::new().expect("a temporary file"))
    }

    /// Looks from now on, until it is interrupted.
    fn begin(&self) -> Child {
        let child = Command::new("perf")
            .args(["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY])
            // On all CPUs, since threads that are born on another are known by name only so.
            .args(["-a", "-o"])
            .arg(self.0.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("perf (Debian: linux-perf)");
        std::thread::sleep(BEGINNING);
        child
    }

    /// What was seen, of something that cost this.
    fn figures(&self, cost: f64, measures: &[Measure]) -> Vec<Figure> {
        let report = run(Command::new("perf")
            .args(["report", "--stdio", "-q", "--no-children", "-s", "sym"])
            .args(["-t", "\t", "-C", "0", "--comms", THREADS, "-i"])
            .arg(self.0.path()));
        let shares = shares(&String::from_utf8_lossy(&report.stdout));
        measures
            .iter()
            .zip(shares)
            .map(|(measure, share)| measure.figure(cost * share))
            .collect()
    }
}

/// Which part of the time each work takes, of perf's lines: a share, and a symbol after its mark.
fn shares(report: &str) -> [f64; KINDS] {
    let mut sums = [0.0; KINDS];
    let mut seen: BTreeMap<&str, f64> = BTreeMap::new();
    for line in report.lines() {
        let Some((share, symbol)) = line.trim().split_once('\t') else {
            continue;
        };
        if let (Ok(share), Some((_, symbol))) = (
            share.trim().trim_end_matches('%').parse::<f64>(),
            symbol.split_once("] "),
        ) {
            *seen.entry(symbol.trim()).or_default() += share;
        }
    }
    let all: f64 = seen.values().sum();
    for (symbol, share) in seen {
        sums[kind(symbol)] += share / all.max(f64::MIN_POSITIVE);
    }
    sums
}

/// What a symbol is at work on. Programs are `bpf_prog_TAG_NAME`; the one without a name is the generator.
fn kind(symbol: &str) -> usize {
    const REST: usize = KINDS - 1;
    if let Some(program) = symbol.strip_prefix("bpf_prog_") {
        return if program.contains('_') { 0 } else { REST };
    }
    WORK.iter()
        .position(|(_, beginnings)| beginnings.iter().any(|one| symbol.starts_with(one)))
        .map_or(REST, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_summed_up_by_what_the_kernel_does() {
        let report = "   40.00%\t[k] bpf_prog_6587ad9ebbd035b7_uplink_ingress\n    \
                      20.00%\t[k] htab_map_hash\n    20.00%\t[k] nft_do_chain\n    \
                      20.00%\t[k] bpf_prog_6587ad9ebbd035b7\n\n";
        let shares = shares(report);
        for (index, expected) in [(0, 0.4), (1, 0.2), (5, 0.2), (8, 0.2), (3, 0.0)] {
            assert!(
                (shares[index] - expected).abs() < 1e-9,
                "{index}: {shares:?}"
            );
        }
    }
}
