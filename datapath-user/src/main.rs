//! The `datapath` command: parses, calls, prints the error once, and decides on the exit status.

use std::process::ExitCode;

use clap::Parser as _;
use datapath_user::cli::{Cli, Usage, is_closed};

fn main() -> ExitCode {
    // Wrong usage ends in here, with status 2.
    let cli = Cli::parse();
    match cli.exec() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("datapath: error: {error:#}");
            if error.is::<Usage>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
