//! Measures datapath against what it takes the place of. Run it by `cargo xtask bench`, which builds first.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use datapath_tests::bench::{self, Plan};

/// Measures datapath against iptables, nftables and docker-proxy, side by side.
#[derive(Parser)]
struct Arguments {
    /// One short round: figures to look at, not to publish
    #[arg(long)]
    quick: bool,
    /// How often every contender has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only the measurements whose name contains NAME
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Write results.json and the drawings there
    #[arg(long, value_name = "DIRECTORY")]
    save: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = Plan {
        rounds: if arguments.quick { 1 } else { arguments.rounds },
        frames: if arguments.quick { 300_000 } else { 2_000_000 },
        time: if arguments.quick { 300 } else { 1_000 },
        only: arguments.only,
    };
    let report = bench::run(&plan, |step| eprintln!("{step}"));
    println!("{report}");
    if let Some(directory) = arguments.save
        && let Err(error) = bench::save(&report, &directory)
    {
        eprintln!("error: {}: {error}", directory.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
