//! `cargo xtask check`: everything that can be said about the project without running it.
//!
//! All checks run, so that one look shows all there is to mend.

mod dependencies;
mod house;
mod spdx;

use std::process::Command;

use anyhow::{Result, bail};

use crate::{exec, setup, workspace::Workspace};

/// Options of `cargo xtask check`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Check the dependencies with cargo-deny too, and install it (a few minutes) if it is not there
    #[arg(long)]
    deny: bool,
}

/// `cargo xtask check`.
///
/// # Errors
/// With the names of the checks that failed; what each found stands above.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::load()?;
    // Even a lint of the user side has its build script compile the eBPF programs.
    setup::for_building(&workspace)?;

    let cargo = |arguments: &[&str]| {
        let mut command = exec::cargo();
        command.current_dir(workspace.root()).args(arguments);
        exec::run(&mut command)
    };
    let mut failed = Vec::new();
    let mut check = |name: &'static str, result: Result<()>| match result {
        Ok(()) => println!("check: {name}: good"),
        Err(error) => {
            println!("check: {name}: {error:#}");
            failed.push(name);
        }
    };
    check("house rules", house::check(workspace.root()));
    check("formatting", cargo(&["fmt", "--all", "--check"]));
    check("dependencies", dependencies::check(workspace.root()));
    if arguments.deny {
        check("cargo-deny", cargo_deny(&workspace));
    }
    check(
        "lints",
        cargo(&[
            "clippy",
            "--workspace",
            "--exclude",
            "datapath-ebpf",
            "--all-targets",
            "--",
            "-Dwarnings",
        ]),
    );
    // Apart from the rest: together, the features of shared dependencies would be those of the user side.
    check(
        "lints of the kernel half",
        cargo(&["clippy", "--package", "datapath-ebpf", "--", "-Dwarnings"]),
    );

    if !failed.is_empty() {
        bail!("{} failed", failed.join(", "));
    }
    Ok(())
}

/// The advisory database is downloaded; where that can't be, the rest is still worth checking.
fn cargo_deny(workspace: &Workspace) -> Result<()> {
    let deny = |arguments: &[&str]| {
        let mut command = exec::cargo();
        command
            .current_dir(workspace.root())
            .arg("deny")
            .args(arguments);
        command
    };
    if exec::capture(&mut deny(&["--version"])).is_err() {
        exec::run(exec::cargo().args(["install", "cargo-deny", "--locked"]))?;
    }
    let fetched: Result<String> = exec::capture(&mut deny(&["fetch", "db"]));
    let mut checks = vec!["check", "licenses", "bans", "sources"];
    match fetched {
        Ok(_) => checks.push("advisories"),
        Err(_) => println!(
            "note: advisories were NOT checked: their database can't be downloaded from here"
        ),
    }
    let command: &mut Command = &mut deny(&checks);
    exec::run(command)
}
