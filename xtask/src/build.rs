//! `cargo xtask build`: the release binary, and where it is.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{exec, setup, workspace::Workspace};

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
