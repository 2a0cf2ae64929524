//! The walk that everybody knows from articles on Docker's networking, on our datapath. Run it by
//! `cargo xtask demo`, which builds first.

use std::process::ExitCode;

fn main() -> ExitCode {
    match datapath_tests::demo::walk() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo does not hold: {error:#}");
            ExitCode::FAILURE
        }
    }
}
