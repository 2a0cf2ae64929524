//! `cargo xtask TASK`: what is done to this project, beside compiling it.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{bench, build, check, demo, exec::Reported, fuzz, package, setup, test};

/// The tasks of the datapath project.
#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    after_help = "Examples:\n  cargo xtask demo\n  cargo xtask test --only published\n  cargo xtask bench --quick\n  \
    cargo xtask package --check\n\nWhat is missing on the machine is installed, and said. Exit status: 0 done, 1 failed, \
    2 wrong usage."
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what building and testing need, and says what and why.
    Setup(setup::Arguments),
    /// The whole promise on real traffic, in half a minute; needs root.
    Demo,
    /// Builds target/release/datapath, with the eBPF programs inside it.
    Build,
    /// Makes a Debian package, target/debian/datapath.deb.
    Package(package::Arguments),
    /// Formatting, lints, licences and the rules of the house.
    Check(check::Arguments),
    /// Runs every test, on real traffic; needs root.
    Test(test::Arguments),
    /// Runs the long tests: upgrades, faults and churn by the hundred, under load; needs root.
    Soak(test::Arguments),
    /// Feeds what reads text and bytes from outside with input that libFuzzer makes up.
    Fuzz(fuzz::Arguments),
    /// Measures against iptables, nftables and docker-proxy; needs root.
    Bench(bench::Arguments),
}

impl Task {
    fn run(&self) -> Result<()> {
        match self {
            Self::Setup(arguments) => setup::run(arguments),
            Self::Demo => demo::run(),
            Self::Build => build::run(),
            Self::Package(arguments) => package::run(arguments),
            Self::Check(arguments) => check::run(arguments),
            Self::Test(arguments) => test::run(arguments),
            Self::Soak(arguments) => test::soak(arguments),
            Self::Fuzz(arguments) => fuzz::run(arguments),
            Self::Bench(arguments) => bench::run(arguments),
        }
    }
}

fn main() -> ExitCode {
    match Arguments::parse().task.run() {
        Ok(()) => ExitCode::SUCCESS,
        // The tool that failed has said so in its own last lines, and those shall stay the last.
        Err(error) if error.is::<Reported>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
