//! What the project is made of: each crate's licence is allowed, each comes from crates.io.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{CargoOpt, MetadataCommand, Package};

use super::spdx;

/// Checks every crate of the build, for the machine we are on.
///
/// # Errors
/// With one line for each crate that must not be there, or when Cargo.lock is not up to date.
pub(super) fn check(root: &Path) -> Result<()> {
    let file = root.join("deny.toml");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let allowed = allowed_licences(&text).with_context(|| format!("in {}", file.display()))?;
    let metadata = MetadataCommand::new()
        .features(CargoOpt::AllFeatures)
        .other_options(["--locked", "--filter-platform", &host()].map(str::to_owned))
        .exec()
        .context("cannot read the dependencies; is Cargo.lock up to date?")?;

    let findings: Vec<_> = metadata
        .packages
        .iter()
        .filter(|package| !metadata.workspace_members.contains(&package.id))
        .filter_map(|package| finding(package, &allowed))
        .collect();
    if !findings.is_empty() {
        bail!("{} crates\n  {}", findings.len(), findings.join("\n  "));
    }
    let crates = metadata.packages.len() - metadata.workspace_members.len();
    println!("{crates} crates from crates.io, each under a licence of deny.toml");
    Ok(())
}

/// The programs are for Linux; the crates that other systems would need are not in the build.
fn host() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// deny.toml is cargo-deny's file; one list serves both.
fn allowed_licences(text: &str) -> Result<Vec<String>> {
    let deny: toml::Table = text.parse()?;
    deny.get("licenses")
        .and_then(|licences| licences.get("allow"))
        .and_then(toml::Value::as_array)
        .context("there is no list licenses.allow")?
        .iter()
        .map(|licence| licence.as_str().map(str::to_owned))
        .collect::<Option<_>>()
        .context("licenses.allow has something that is not a text")
}

fn finding(package: &Package, allowed: &[String]) -> Option<String> {
    let crates_io = package
        .source
        .as_ref()
        .is_some_and(|source| source.is_crates_io());
    if !crates_io {
        return Some(format!(
            "{} {} is not from crates.io",
            package.name, package.version
        ));
    }
    let wrong = match &package.license {
        None => "it names no licence".to_owned(),
        Some(licence) => match spdx::is_met(licence, allowed) {
            Ok(true) => return None,
            Ok(false) => format!("licence {licence} is not allowed"),
            Err(error) => format!("{error:#}"),
        },
    };
    Some(format!("{} {}: {wrong}", package.name, package.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_cargo_deny_is_read() {
        let text = "[licenses]\nallow = [\"MIT\", # why\n  \"ISC\"]\n";
        assert_eq!(allowed_licences(text).unwrap(), ["MIT", "ISC"]);
        assert!(allowed_licences("[licenses]\nallow = [1]").is_err());
        assert!(allowed_licences("").is_err());
    }
}
