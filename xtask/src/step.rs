//! Long commands whose output matters only when they fail.
//!
//! On a terminal a spinner shows the time and the command's last line; elsewhere (a log, CI) one plain line
//! when it starts and one when it ends. A failure shows the end of the output and the command.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::exec;

/// How much of a failed command's output is shown: an error of apt or rustc fits.
const LAST_LINES: usize = 40;

/// Runs `command` under the heading `what`.
///
/// # Errors
/// When it can't be started, or fails; the error carries the end of what it printed.
pub fn step(what: &str, command: &mut Command) -> Result<()> {
    let bar = ProgressBar::new_spinner();
    // Without a terminal the bar is hidden and drops what it is told to print.
    let say = |line: &str| match bar.is_hidden() {
        true => println!("{line}"),
        false => bar.println(line),
    };
    if bar.is_hidden() {
        println!("  ... {what}");
    }
    bar.set_style(
        ProgressStyle::with_template("  {spinner} {prefix} {elapsed} {wide_msg:.dim}")
            .context("the template of the spinner is wrong")?,
    );
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));

    let shown = exec::shown(command);
    let (output, writer) = io::pipe().context("cannot make a pipe")?;
    let errors = writer.try_clone().context("cannot make a pipe")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    // The command keeps its ends of the pipe, and the reader below would never see the end of it.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut last = VecDeque::with_capacity(LAST_LINES);
    for line in BufReader::new(output).split(b'\n') {
        let line = line.with_context(|| format!("cannot read the output of `{shown}`"))?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        bar.set_message(line.clone());
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{shown}`"))?;
    let seconds = bar.elapsed().as_secs();
    if status.success() {
        say(&format!("  ... {what}: done in {seconds} s"));
        bar.finish_and_clear();
        return Ok(());
    }
    bar.finish_and_clear();
    let last = last.make_contiguous().join("\n  | ");
    bail!("`{shown}` failed after {seconds} s: {status}\n  | {last}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_both_outputs_and_the_command() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 1"]);
        let text = step("failing", &mut command).unwrap_err().to_string();
        assert!(
            text.contains("`sh -c 'echo one; echo two >&2; exit 1'` failed"),
            "{text}"
        );
        assert!(text.ends_with("  | one\n  | two"), "{text}");
    }

    #[test]
    fn only_the_end_of_a_long_output_is_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "seq 1000; exit 1"]);
        let text = step("counting", &mut command).unwrap_err().to_string();
        assert_eq!(text.lines().count(), 1 + LAST_LINES);
        assert!(text.ends_with("| 1000"), "{text}");
    }
}
