//! `completions` and `man`: made from the same definition as the command line itself, so that they cannot
//! disagree with it.

use std::{fs, io::Write as _, path::Path};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, output};

/// Prints a shell's completion script.
pub(super) fn completions(shell: Shell) -> Result<()> {
    // The generator panics where its output fails: it gets a buffer.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "datapath", &mut script);
    let mut out = output::stdout();
    out.write_all(&script)?;
    Ok(out.flush()?)
}

/// Writes the manual pages, one for each command.
pub(super) fn man(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
    clap_mangen::generate_to(Cli::command(), dir).with_context(|| format!("{}", dir.display()))
}
