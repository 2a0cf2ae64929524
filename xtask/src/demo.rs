//! `cargo xtask demo`: the whole promise, on real traffic.

use anyhow::Result;

use crate::{build, exec, machine, setup, workspace::Workspace};

/// `cargo xtask demo`.
///
/// # Errors
/// When not root, when set-up or a build fails, and when a step of the demo does not hold.
pub fn run() -> Result<()> {
    machine::require_root("demo")?;
    let workspace = Workspace::load()?;
    setup::for_testing(&workspace)?;
    let binary = build::release(&workspace)?;
    exec::run_last(&mut build::in_lab(
        &workspace,
        &binary,
        "datapath-demo",
        &[],
    ))
}
