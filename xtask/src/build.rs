//! `cargo xtask build`: the release binary, and where it is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{exec, machine, setup, workspace::Workspace};

/// `cargo xtask build`.
///
/// # Errors
/// When set-up or the build fails.
pub fn run() -> Result<()> {
    let workspace = Workspace::load()?;
    setup::for_building(&workspace)?;
    let binary = release(&workspace)?;
    let size = fs::metadata(&binary)
        .with_context(|| format!("cannot see {}", binary.display()))?
        .len();
    let tenths = size / 100_000;
    println!(
        "{} ({}.{} MB), with the eBPF programs inside: one file to copy to a host",
        binary.display(),
        tenths / 10,
        tenths % 10
    );
    Ok(())
}

/// Builds the release binary; what it needs is there already.
///
/// # Errors
/// When the build fails.
pub fn release(workspace: &Workspace) -> Result<PathBuf> {
    exec::run(exec::cargo().current_dir(workspace.root()).args([
        "build",
        "--release",
        "--package",
        "datapath-user",
        "--bin",
        "datapath",
    ]))?;
    Ok(workspace.binary())
}

/// Where what runs in the lab finds the program; it runs the one that is shipped, not one of its own.
pub(crate) const BINARY: &str = "DATAPATH_BIN";

/// A program of the lab's, built with these features, to be run on the release binary. What follows are its own
/// arguments.
pub(crate) fn in_lab(
    workspace: &Workspace,
    binary: &Path,
    program: &str,
    features: &[&str],
) -> Command {
    let mut command = exec::cargo();
    command
        .current_dir(workspace.root())
        .env("PATH", machine::path())
        .env(BINARY, binary)
        .env("RUST_LOG", "warn")
        .args(["run", "--release", "--quiet", "--package", "datapath-tests"])
        .args(["--features", &features.join(",")])
        .args(["--bin", program, "--"]);
    command
}
