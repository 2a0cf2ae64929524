//! Measures `docker run` with many ports. Run it by `cargo xtask bench --docker`, which builds first.

use clap::Parser;
use datapath_tests::bench::docker::{Table, run};

/// Measures `docker run` with many ports, beside an engine with iptables and docker-proxy.
#[derive(Parser)]
struct Arguments {
    /// How many ports
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    ports: u16,
}

fn main() {
    let costs = run(Arguments::parse().ports, |step| eprintln!("{step}"));
    println!("{}", Table(&costs));
}
