//! What building and testing need: found, or installed, with a line that says which and why.
//!
//! Building needs a Rust toolchain with the source of `core` ([`toolchain`]) and a linker for eBPF
//! ([`linker`]). Testing needs programs of the distribution besides ([`packages`]). What is there is left as
//! it is, and a second run changes nothing.

mod apt;
mod linker;
mod packages;
mod report;
mod toolchain;

use anyhow::Result;

use crate::workspace::Workspace;

use self::{apt::Apt, report::Report};

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only what building needs: the toolchain and the linker, no packages for tests and the demo
    #[arg(long)]
    build_only: bool,
}

/// `cargo xtask setup`: tells each thing, the ones that were there too.
///
/// # Errors
/// When something is missing and can't be installed, with the remedy.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::load()?;
    let mut report = Report::of_everything();
    let mut apt = Apt::find();
    build_tools(&workspace, apt.as_mut(), &mut report)?;
    if !arguments.build_only {
        packages::ensure(apt.as_mut(), &mut report)?;
    }
    report.close();
    Ok(())
}

/// What building needs; tells only what it installs.
///
/// # Errors
/// As [`run`].
pub fn for_building(workspace: &Workspace) -> Result<()> {
    let mut report = Report::of_changes();
    build_tools(workspace, Apt::find().as_mut(), &mut report)?;
    report.close();
    Ok(())
}

/// What building, testing and the demo need; tells only what it installs.
///
/// # Errors
/// As [`run`].
pub fn for_testing(workspace: &Workspace) -> Result<()> {
    let mut report = Report::of_changes();
    let mut apt = Apt::find();
    build_tools(workspace, apt.as_mut(), &mut report)?;
    packages::ensure(apt.as_mut(), &mut report)?;
    report.close();
    Ok(())
}

fn build_tools(workspace: &Workspace, apt: Option<&mut Apt>, report: &mut Report) -> Result<()> {
    let toolchain = toolchain::ensure(workspace.rust_version(), apt, report)?;
    linker::ensure(&toolchain, workspace.target(), report)
}
