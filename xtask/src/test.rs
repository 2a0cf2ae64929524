//! `cargo xtask test`: every test, on real traffic where it takes that, with the runner's summary at the end;
//! and `cargo xtask soak`: the tests that take minutes.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{build, exec, machine, setup, workspace::Workspace};

/// Options of `cargo xtask test` and `cargo xtask soak`.
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
    let stage = Stage::prepare("test")?;
    // The examples in the documentation come first: nextest does not run them, and its summary shall be last.
    if arguments.only.is_none() {
        let mut examples = exec::cargo();
        examples.args(["test", "--quiet", "--doc"]).args(MEMBERS);
        stage.run_last(&mut examples)?;
    }
    let mut tests = runner();
    tests.args(MEMBERS).args(&arguments.only);
    stage.run_last(&mut tests)
}

/// `cargo xtask soak`.
///
/// # Errors
/// As [`run`].
pub fn soak(arguments: &Arguments) -> Result<()> {
    let stage = Stage::prepare("soak")?;
    let mut tests = exec::cargo();
    let nextest = has_nextest();
    tests.args(if nextest {
        &["nextest", "run", "--profile", "soak"][..]
    } else {
        &["test", "--no-fail-fast"]
    });
    tests.args(["--package", "datapath-tests"]);
    tests.args(["--features", "soak", "--test", "soak"]);
    if !nextest {
        // One after the other, as the profile has it.
        tests.args(["--", "--test-threads=1", "--nocapture"]);
    }
    tests.args(&arguments.only);
    stage.run_last(&mut tests)
}

/// What tests need: the built program, and where to find it.
struct Stage {
    workspace: Workspace,
    binary: PathBuf,
}

impl Stage {
    fn prepare(task: &str) -> Result<Self> {
        machine::require_root(task)?;
        let workspace = Workspace::load()?;
        setup::for_testing(&workspace)?;
        let binary = build::release(&workspace)?;
        Ok(Self { workspace, binary })
    }

    fn run_last(&self, command: &mut Command) -> Result<()> {
        command
            .current_dir(self.workspace.root())
            .env("PATH", machine::path())
            .env(build::BINARY, &self.binary);
        exec::run_last(command)
    }
}

/// The kernel half is tested through the programs it becomes, in the lab.
const MEMBERS: [&str; 3] = ["--workspace", "--exclude", "datapath-ebpf"];

/// nextest where it is: a process for each test, and one summary of them all.
fn runner() -> Command {
    let mut runner = exec::cargo();
    if has_nextest() {
        runner.args(["nextest", "run"]);
    } else {
        runner.args(["test", "--all-targets", "--no-fail-fast"]);
    }
    runner
}

fn has_nextest() -> bool {
    exec::capture(exec::cargo().args(["nextest", "--version"])).is_ok()
}
