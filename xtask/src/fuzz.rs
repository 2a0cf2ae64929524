//! `cargo xtask fuzz`: text and bytes from outside, made up by libFuzzer, as long as one likes.
//!
//! The targets lie in tests/fuzz, a workspace of its own. What a target finds is written below target/fuzz; to mend it,
//! make a test of it beside the others first.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{exec, setup, step::step, workspace::Workspace};

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Arguments {
    /// One target [default: each in turn]
    target: Option<String>,
    /// How long each target runs
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u32,
}

/// `cargo xtask fuzz`.
///
/// # Errors
/// When set-up or the build fails, and when a target finds something: where it is stands above.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::load()?;
    let known = targets(workspace.root())?;
    let chosen = match &arguments.target {
        Some(name) if known.contains(name) => vec![name.clone()],
        Some(name) => bail!("{name}: no such target; there are {}", known.join(", ")),
        None => known,
    };
    setup::for_building(&workspace)?;
    ensure_cargo_fuzz()?;
    for target in chosen {
        fuzz(&workspace, &target, arguments.seconds)?;
    }
    Ok(())
}

fn ensure_cargo_fuzz() -> Result<()> {
    if exec::capture(exec::cargo().args(["fuzz", "--version"])).is_ok() {
        return Ok(());
    }
    step(
        "installing cargo-fuzz, which builds and runs the targets",
        exec::cargo().args(["install", "cargo-fuzz", "--locked"]),
    )
}

/// The targets' names, sorted.
fn targets(root: &Path) -> Result<Vec<String>> {
    let place = root.join("tests/fuzz/fuzz_targets");
    let entries =
        fs::read_dir(&place).with_context(|| format!("cannot list {}", place.display()))?;
    let mut names: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            entry
                .path()
                .file_stem()
                .map(|name| name.to_string_lossy().into_owned())
        })
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// Begins with the examples in tests/fuzz/corpus; whatever more leads somewhere new is kept below target/fuzz.
fn fuzz(workspace: &Workspace, target: &str, seconds: u32) -> Result<()> {
    let found = workspace.target().join("fuzz");
    let directory = |kind: &str| -> Result<PathBuf> {
        let directory = found.join(kind).join(target);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(directory)
    };
    let (corpus, artifacts) = (directory("corpus")?, directory("artifacts")?);
    let examples = workspace.root().join("tests/fuzz/corpus").join(target);
    exec::run(
        exec::cargo()
            .current_dir(workspace.root().join("tests"))
            // The sanitizers' flags are a nightly's, and a stable compiler's with this.
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["fuzz", "run", "--fuzz-dir", "fuzz", "--target-dir"])
            .arg(&found)
            .arg(target)
            .args([&corpus, &examples])
            .arg("--")
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(format!("-max_total_time={seconds}"))
            .args(["-max_len=4096", "-rss_limit_mb=1024", "-timeout=5"]),
    )
}
