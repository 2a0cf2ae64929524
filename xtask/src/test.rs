//! `cargo xtask test`: every test, on real traffic where it takes that, with the runner's summary at the end.

use std::process::Command;

use anyhow::Result;

use crate::{build, exec, machine, setup, workspace::Workspace};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only the tests whose name contains NAME
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// `cargo xtask test`.
///
/// # Errors
/// When not root, when set-up or the build fails, and when a test fails.
pub fn run(arguments: &Arguments) -> Result<()> {
    machine::require_root("test")?;
    let workspace = Workspace::load()?;
    setup::for_testing(&workspace)?;
    let binary = build::release(&workspace)?;

    let prepared = |command: &mut Command| {
        command
            .current_dir(workspace.root())
            .env("PATH", machine::path())
            .env(build::BINARY, &binary);
    };
    // The examples in the documentation come first: nextest does not run them, and its summary shall be last.
    if arguments.only.is_none() {
        let mut examples = exec::cargo();
        examples.args(["test", "--quiet", "--doc"]).args(MEMBERS);
        prepared(&mut examples);
        exec::run_last(&mut examples)?;
    }
    let mut tests = runner();
    tests.args(MEMBERS).args(&arguments.only);
    prepared(&mut tests);
    exec::run_last(&mut tests)
}

/// The kernel half is tested through the programs it becomes, in the lab.
const MEMBERS: [&str; 3] = ["--workspace", "--exclude", "datapath-ebpf"];

/// nextest where it is: a process for each test, and one summary of them all.
fn runner() -> Command {
    let mut runner = exec::cargo();
    let has_nextest = exec::capture(exec::cargo().args(["nextest", "--version"])).is_ok();
    if has_nextest {
        runner.args(["nextest", "run"]);
    } else {
        runner.args(["test", "--all-targets", "--no-fail-fast"]);
    }
    runner
}
