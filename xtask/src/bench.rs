//! `cargo xtask bench`: datapath against what it takes the place of, side by side.

use anyhow::Result;

use crate::{build, exec, machine, setup, workspace::Workspace};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Arguments {
    /// One short round, in half a minute: figures to look at, not to publish
    #[arg(long)]
    quick: bool,
    /// How often every contender has its turn
    #[arg(long, conflicts_with = "quick")]
    rounds: Option<u32>,
    /// Only the measurements whose name contains NAME
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// `cargo xtask bench`. A full run renews docs/benchmarks.
///
/// # Errors
/// When not root, when set-up or a build fails, and when packets are lost.
pub fn run(arguments: &Arguments) -> Result<()> {
    machine::require_root("bench")?;
    let workspace = Workspace::load()?;
    setup::for_testing(&workspace)?;
    let binary = build::release(&workspace)?;
    let mut bench = build::in_lab(&workspace, &binary, "datapath-bench");
    if arguments.quick {
        bench.arg("--quick");
    }
    if let Some(rounds) = arguments.rounds {
        bench.args(["--rounds", &rounds.to_string()]);
    }
    match &arguments.only {
        Some(only) => {
            bench.args(["--only", only]);
        }
        None if !arguments.quick => {
            bench.args(["--save", "docs/benchmarks"]);
        }
        None => {}
    }
    exec::run_last(&mut bench)
}
