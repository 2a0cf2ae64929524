//! `cargo xtask package`: a Debian package, and a rehearsal of its life.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{build, exec, machine, setup, step::step, workspace::Workspace};

/// Options of `cargo xtask package`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Also install, run, upgrade, remove and purge it, in a root of its own; needs root
    #[arg(long)]
    check: bool,
}

/// `cargo xtask package`.
///
/// # Errors
/// When set-up, the build or the packaging fails, and when the package does not do what it should.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.check {
        machine::require_root("package --check")?;
    }
    let workspace = Workspace::load()?;
    setup::for_building(&workspace)?;
    ensure_cargo_deb()?;
    let binary = build::release(&workspace)?;
    generate(&workspace, &binary)?;
    let package = workspace.target().join("debian/datapath.deb");
    step(
        "packing",
        exec::cargo()
            .current_dir(workspace.root())
            .env("PATH", machine::path())
            .args([
                "deb",
                "--package",
                "datapath-user",
                "--no-build",
                // Stripped; what debuggers need goes into datapath.ddeb beside it.
                "--dbgsym",
                "--output",
            ])
            .arg(&package),
    )?;
    println!("{}", package.display());
    if arguments.check {
        check(&workspace, &package)?;
    }
    Ok(())
}

fn ensure_cargo_deb() -> Result<()> {
    if exec::capture(exec::cargo().args(["deb", "--version"])).is_ok() {
        return Ok(());
    }
    step(
        "installing cargo-deb, which makes the package",
        exec::cargo().args(["install", "cargo-deb", "--locked"]),
    )
}

/// The files that the program itself writes: manual pages and completions.
fn generate(workspace: &Workspace, binary: &Path) -> Result<()> {
    let dir = |name: &str| -> Result<PathBuf> {
        let dir = workspace.target().join("package").join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    };
    exec::run(Command::new(binary).arg("man").arg(dir("man")?))?;
    let completions = dir("completions")?;
    for (shell, file) in [
        ("bash", "datapath"),
        ("zsh", "_datapath"),
        ("fish", "datapath.fish"),
    ] {
        let script = exec::capture(Command::new(binary).args(["completions", shell]))?;
        let path = completions.join(file);
        fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// In a mount namespace, over an overlay of this machine's own root: what is installed there is gone with it. The
/// network is one of its own, so the service finds a host with nothing to do.
fn check(workspace: &Workspace, package: &Path) -> Result<()> {
    let script = workspace.root().join("dist/debian/check");
    let status = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "sh"])
        .arg(&script)
        .arg(package)
        .status()
        .context("cannot start unshare")?;
    if !status.success() {
        bail!("{} failed: see above", script.display());
    }
    println!("installed, run, upgraded, removed and purged: nothing was left behind");
    Ok(())
}
