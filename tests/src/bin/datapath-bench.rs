//! Measures datapath against what it takes the place of. Run it by `cargo xtask bench`, which builds first.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use datapath_tests::{
    bench::{self, Part, Plan, Results},
    budgets,
};

/// Measures datapath against iptables, nftables and docker-proxy, side by side.
#[derive(Parser)]
struct Arguments {
    /// One short round of everything: figures to look at, not to publish
    #[arg(long)]
    quick: bool,
    /// How often every contender has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only these parts
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// Only the contenders whose name contains NAME
    #[arg(long, value_name = "NAME")]
    against: Option<String>,
    /// Renew results.json, the drawings and the tables of the page there
    #[arg(long, value_name = "DIRECTORY")]
    save: Option<PathBuf>,
    /// Measure nothing: draw what results.json there has
    #[arg(long, requires = "save")]
    draw: bool,
    /// Measure nothing: make what the verifier reads of each program now its budget
    #[arg(long)]
    budgets: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.budgets {
        return renew_budgets();
    }
    let results = if arguments.draw {
        Results::default()
    } else {
        let parts = if arguments.only.is_empty() {
            // A profile of a minute's look says little.
            let parts = Part::ALL.into_iter();
            parts
                .filter(|part| !arguments.quick || *part != Part::Profile)
                .collect()
        } else {
            arguments.only
        };
        let plan = Plan {
            parts,
            rounds: if arguments.quick { 1 } else { arguments.rounds },
            quick: arguments.quick,
            against: arguments.against,
        };
        bench::run(&plan, |step| eprintln!("{step}"))
    };
    print!("{results}");
    if let Some(directory) = arguments.save
        && let Err(error) = bench::save(results, &directory)
    {
        eprintln!("error: {}: {error}", directory.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn renew_budgets() -> ExitCode {
    let renewed = budgets::count().and_then(|counts| {
        let former = budgets::read().unwrap_or_default();
        print!("{}", budgets::compare(&counts, &former).0);
        budgets::write(&counts)
    });
    match renewed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
