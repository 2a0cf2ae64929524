//! Debian's package manager, so used that it changes no more than what is asked of it.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{exec, machine, step::step};

/// Installs packages while no package may start a service; see the file itself.
const GUARD: &str = include_str!("no-services.sh");

/// `apt-get`, and whether its lists were refreshed in this run.
pub(super) struct Apt {
    fresh: bool,
}

impl Apt {
    /// Where there is one.
    pub(super) fn find() -> Option<Self> {
        machine::program("apt-get").map(|_| Self { fresh: false })
    }

    /// The version of `package` that would be installed, if there is any.
    pub(super) fn candidate(&mut self, package: &str) -> Result<Option<String>> {
        self.refresh();
        let policy = exec::capture(
            Command::new("apt-cache")
                .env("LC_ALL", "C")
                .args(["policy", package]),
        )?;
        Ok(candidate_of(&policy).map(str::to_owned))
    }

    /// Installs `packages`, or brings them to one version if some are there already.
    pub(super) fn install(&mut self, packages: &[&str]) -> Result<()> {
        if !machine::is_root() {
            bail!(
                "installing {} needs root: run `sudo apt-get install --no-install-recommends {}`, \
                 then this task again",
                packages.join(", "),
                packages.join(" ")
            );
        }
        self.refresh();
        step(
            &format!("apt-get install ({} packages)", packages.len()),
            Command::new("sh")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .env("LC_ALL", "C")
                .args(["-c", GUARD, "no-services.sh", "apt-get", "install"])
                // A package that conflicts with what the user has is not worth losing that.
                .args(["--yes", "--no-install-recommends", "--no-remove"])
                .args(["-o", "DPkg::Lock::Timeout=300"])
                .args(packages),
        )
        .with_context(|| {
            format!(
                "cannot install {}; are the distribution's packages reachable from here? \
                 (`apt-get update` shows it)",
                packages.join(", ")
            )
        })
    }

    /// Refreshes the package lists once. A list that fails may be one that nobody needs here, so the word is
    /// left to the installation.
    fn refresh(&mut self) {
        if self.fresh || !machine::is_root() {
            return;
        }
        self.fresh = true;
        let refreshed = step(
            "apt-get update",
            Command::new("apt-get").env("LC_ALL", "C").args([
                "update",
                "-o",
                "DPkg::Lock::Timeout=300",
            ]),
        );
        if let Err(error) = refreshed {
            println!("note     {error:#}");
        }
    }
}

/// Whether dpkg has `package` installed.
pub(super) fn is_installed(package: &str) -> bool {
    let status = exec::capture(Command::new("dpkg-query").args([
        "--show",
        "--showformat=${db:Status-Status}",
        package,
    ]));
    status.is_ok_and(|status| status == "installed")
}

fn candidate_of(policy: &str) -> Option<&str> {
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_is_read_from_the_policy() {
        let policy = "jq:\n  Installed: (none)\n  Candidate: 1.6-2.1\n  Version table:\n";
        assert_eq!(candidate_of(policy), Some("1.6-2.1"));
        let unknown = "jq:\n  Installed: (none)\n  Candidate: (none)\n";
        assert_eq!(candidate_of(unknown), None);
        assert_eq!(candidate_of(""), None);
    }
}
