//! `cargo xtask bench`: datapath against what it takes the place of, side by side.

use anyhow::Result;

use crate::{build, exec, machine, setup, workspace::Workspace};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Arguments {
    /// One short round of everything, within a minute: figures to look at, not to publish
    #[arg(long)]
    quick: bool,
    /// How often every contender has its turn
    #[arg(long, conflicts_with = "quick")]
    rounds: Option<u32>,
    /// Only these parts; the others' figures stay as they are
    #[arg(long, value_name = "PART", value_delimiter = ',', value_parser = PARTS)]
    only: Vec<String>,
    /// Only the contenders whose name contains NAME: figures to look at
    #[arg(long, value_name = "NAME")]
    against: Option<String>,
    /// Measure nothing: draw docs/benchmarks anew from results.json
    #[arg(long, conflicts_with_all = ["quick", "rounds", "only", "against"])]
    draw: bool,
    /// Measure nothing: write down how many instructions the verifier reads of each program, which the tests compare
    #[arg(long, conflicts_with_all = ["quick", "rounds", "only", "against", "draw"])]
    budgets: bool,
    /// `docker run` with a thousand ports instead, beside an engine with iptables and docker-proxy
    #[arg(long, conflicts_with_all = ["quick", "rounds", "only", "against", "draw", "budgets"])]
    docker: bool,
}

/// The parts, as the measuring program has them.
const PARTS: [&str; 7] = [
    "driver", "users", "ports", "flows", "host", "programs", "profile",
];

/// Where the figures are kept.
const DOCS: &str = "docs/benchmarks";

/// `cargo xtask bench`. Whatever is measured in full renews docs/benchmarks.
///
/// # Errors
/// When not root, when set-up or a build fails, and when packets are lost.
pub fn run(arguments: &Arguments) -> Result<()> {
    machine::require_root("bench")?;
    let workspace = Workspace::load()?;
    setup::for_testing(&workspace)?;
    let binary = build::release(&workspace)?;
    if arguments.docker {
        let mut bench = build::in_lab(&workspace, &binary, "datapath-bench-docker", &[]);
        return exec::run_last(&mut bench);
    }
    let mut bench = build::in_lab(&workspace, &binary, "datapath-bench", &["png"]);
    for (given, option) in [
        (arguments.quick, "--quick"),
        (arguments.draw, "--draw"),
        (arguments.budgets, "--budgets"),
    ] {
        if given {
            bench.arg(option);
        }
    }
    if let Some(rounds) = arguments.rounds {
        bench.args(["--rounds", &rounds.to_string()]);
    }
    for part in &arguments.only {
        bench.args(["--only", part]);
    }
    if let Some(against) = &arguments.against {
        bench.args(["--against", against]);
    }
    if !arguments.quick && !arguments.budgets && arguments.against.is_none() {
        bench.args(["--save", DOCS]);
    }
    exec::run_last(&mut bench)
}
