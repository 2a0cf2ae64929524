//! Running commands, and errors that show the command to run by hand.

use std::{
    error::Error,
    ffi::OsStr,
    fmt,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// The tool that failed has already told the user everything: nothing is to be added after its words.
#[derive(Debug)]
pub struct Reported;

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tool failed, and said why above")
    }
}

impl Error for Reported {}

/// The cargo that runs this task, so that a `+toolchain` chosen by the user is kept.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs `command` with the terminal as its own; an error shows the command.
///
/// # Errors
/// When it can't be started, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Prints `command` and runs it with the terminal as its own; its last line stays the last.
///
/// # Errors
/// [`Reported`] when it fails.
pub fn run_last(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        return Err(Reported.into());
    }
    Ok(())
}

/// Runs `command` and returns what it wrote to its standard output, without the white space around it.
///
/// # Errors
/// When it can't be started, or fails; the error carries its standard error.
pub fn capture(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr);
        bail!("`{}` failed: {status}\n{}", shown(command), stderr.trim());
    }
    Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
}

/// `command` as one would type it, with the variables that it is given; not `PATH`, which is long, and whoever types
/// has one.
pub fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        let value = value.filter(|_| name != "PATH")?;
        Some(format!("{}={}", name.display(), quoted(value)))
    });
    variables
        .chain([quoted(command.get_program())])
        .chain(command.get_args().map(quoted))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("grep");
        command
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin")
            .args(["-e", "it's here", "", "a-b/c.d"]);
        assert_eq!(
            shown(&command),
            r"LC_ALL=C grep -e 'it'\''s here' '' a-b/c.d"
        );
    }

    #[test]
    fn an_error_carries_the_command_and_its_words() {
        let error = capture(Command::new("sh").args(["-c", "echo no >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("`sh -c 'echo no >&2; exit 3'` failed"),
            "{text}"
        );
        assert!(text.ends_with("\nno"), "{text}");
    }

    #[test]
    fn output_comes_without_the_last_newline() {
        assert_eq!(capture(Command::new("echo").arg("yes")).unwrap(), "yes");
    }
}
