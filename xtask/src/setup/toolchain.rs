//! The toolchain that compiles the eBPF programs.
//!
//! `core` has no prebuilt form for the BPF machine, so its source must be there, of the very version of the
//! compiler. Two ways lead there, and datapath-user's build script accepts either:
//!
//! - `ebpf`: a distribution's compiler and source, linked into rustup under that name. Debian keeps a recent
//!   pair for browsers to be built with (`rustc-web`), beside its older `rustc`.
//! - `nightly` with the component `rust-src`, from rustup.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow, bail};
use cargo_metadata::semver::Version;

use crate::{exec, machine, step::step};

use super::{apt::Apt, report::Report};

/// Names a toolchain outright; the build script knows it too.
const CHOICE: &str = "DATAPATH_EBPF_TOOLCHAIN";

/// What rustup calls the distribution's pair, and where that lives.
const LINKED: &str = "ebpf";
const LINKED_ROOT: &str = "/usr";

const NIGHTLY: &str = "nightly";

/// Debian's pair. Always named together, so that apt keeps them at one version.
const DEBIAN: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

const WHY: &str = "compiles the eBPF programs, `core` included";

/// A toolchain that compiles the eBPF programs.
pub(super) struct Toolchain {
    /// What to call it in front of the user.
    title: String,
    sysroot: PathBuf,
    /// The version of LLVM that its compiler speaks.
    pub(super) llvm: u64,
}

impl Toolchain {
    /// Its compiler.
    pub(super) fn rustc(&self) -> PathBuf {
        self.sysroot.join("bin").join("rustc")
    }
}

/// Finds the toolchain, or installs it in the way that fits this machine.
///
/// # Errors
/// When neither way leads to one; the error says why, for both.
pub(super) fn ensure(
    oldest: Option<&Version>,
    apt: Option<&mut Apt>,
    report: &mut Report,
) -> Result<Toolchain> {
    if machine::program("rustup").is_none() {
        bail!(
            "rustup is not on PATH. It keeps a second compiler, for the eBPF programs, beside the usual one: \
             install it from https://rustup.rs, then run this task again"
        );
    }
    if let Ok(name) = std::env::var(CHOICE) {
        let found =
            probe(&name, oldest).with_context(|| format!("{CHOICE} names toolchain {name}"))?;
        report.found(&found.title, WHY);
        return Ok(found);
    }
    let mut reasons = Vec::new();
    for name in [LINKED, NIGHTLY] {
        match probe(name, oldest) {
            Ok(found) => {
                report.found(&found.title, WHY);
                return Ok(found);
            }
            Err(error) => reasons.push(error),
        }
    }
    match from_debian(oldest, apt, report) {
        Ok(found) => return Ok(found),
        Err(error) => report.note(&format!("not from the distribution: {error:#}")),
    }
    from_rustup(oldest, report).with_context(|| {
        let reasons: Vec<_> = reasons.iter().map(|reason| format!("{reason:#}")).collect();
        format!(
            "no toolchain can compile the eBPF programs ({})",
            reasons.join("; ")
        )
    })
}

fn from_debian(
    oldest: Option<&Version>,
    apt: Option<&mut Apt>,
    report: &mut Report,
) -> Result<Toolchain> {
    let apt = apt.context("there is no apt-get here")?;
    if !machine::is_root() {
        bail!("its packages need root");
    }
    let candidate = apt
        .candidate(DEBIAN[0])?
        .with_context(|| format!("it has no package {}", DEBIAN[0]))?;
    let version = upstream(&candidate)
        .with_context(|| format!("its {} has an odd version, {candidate}", DEBIAN[0]))?;
    if is_too_old(&version, oldest) {
        bail!("its {} is too old, {candidate}", DEBIAN[0]);
    }
    for package in DEBIAN {
        report.installs(package, WHY);
    }
    apt.install(&DEBIAN)?;
    step(
        &format!("rustup toolchain link {LINKED} {LINKED_ROOT}"),
        Command::new("rustup").args(["toolchain", "link", LINKED, LINKED_ROOT]),
    )?;
    probe(LINKED, oldest)
}

fn from_rustup(oldest: Option<&Version>, report: &mut Report) -> Result<Toolchain> {
    report.installs("toolchain nightly", WHY);
    step(
        "rustup toolchain install nightly, with rust-src",
        Command::new("rustup")
            .args(["toolchain", "install", NIGHTLY, "--profile", "minimal"])
            .args(["--component", "rust-src"]),
    )
    .context("rustup can't install nightly with rust-src; is its server reachable from here?")?;
    probe(NIGHTLY, oldest)
}

/// Whether rustup's toolchain `name` will do, and what is to be known of it.
fn probe(name: &str, oldest: Option<&Version>) -> Result<Toolchain> {
    let rustc = |argument: &[&str]| {
        exec::capture(
            Command::new("rustup")
                .args(["run", name, "rustc"])
                .args(argument),
        )
    };
    let about = rustc(&["-vV"]).map_err(|_| anyhow!("toolchain {name} is not installed"))?;
    let (version, llvm) = versions(&about)
        .with_context(|| format!("toolchain {name} does not say what it is: {about}"))?;
    if is_too_old(&version, oldest) {
        bail!("toolchain {name} is too old, {version}");
    }
    let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?);
    for (file, what) in [
        ("bin/cargo", "cargo"),
        (
            "lib/rustlib/src/rust/library/core/src/lib.rs",
            "the source of core (rust-src)",
        ),
    ] {
        if !Path::new(&sysroot).join(file).exists() {
            bail!("toolchain {name} lacks {what}");
        }
    }
    Ok(Toolchain {
        title: format!("toolchain {name} {version}"),
        sysroot,
        llvm,
    })
}

/// The versions of the compiler and of LLVM in the words of `rustc -vV`.
fn versions(about: &str) -> Option<(Version, u64)> {
    let field = |name| about.lines().find_map(|line| line.strip_prefix(name));
    let rustc = Version::parse(field("release: ")?).ok()?;
    let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some((rustc, llvm))
}

/// The upstream part of a Debian version: `1:1.96.0+dfsg1-1~deb12u2` is 1.96.0.
fn upstream(debian: &str) -> Option<Version> {
    let version = debian
        .split_once(':')
        .map_or(debian, |(_, version)| version);
    let digits = version.find(|c: char| !c.is_ascii_digit() && c != '.');
    Version::parse(&version[..digits.unwrap_or(version.len())]).ok()
}

/// As cargo does, a nightly counts as the release that it leads to.
fn is_too_old(version: &Version, oldest: Option<&Version>) -> bool {
    let release = |version: &Version| (version.major, version.minor, version.patch);
    oldest.is_some_and(|oldest| release(version) < release(oldest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_words_are_understood() {
        let about = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\n\
                     release: 1.97.0-nightly\nLLVM version: 22.1.4";
        let (rustc, llvm) = versions(about).unwrap();
        assert_eq!(rustc.to_string(), "1.97.0-nightly");
        assert_eq!(llvm, 22);
        assert_eq!(versions("rustc 1.0"), None);
    }

    #[test]
    fn debian_versions_are_understood() {
        assert_eq!(
            upstream("1.96.0+dfsg1-1~deb12u2").unwrap(),
            Version::new(1, 96, 0)
        );
        assert_eq!(upstream("1:1.85.0-2").unwrap(), Version::new(1, 85, 0));
        assert_eq!(upstream("2026"), None);
        assert_eq!(upstream(""), None);
    }

    #[test]
    fn a_nightly_is_as_old_as_its_release() {
        let oldest = Version::new(1, 95, 0);
        let nightly = Version::parse("1.95.0-nightly").unwrap();
        assert!(!is_too_old(&nightly, Some(&oldest)));
        assert!(is_too_old(&Version::new(1, 94, 9), Some(&oldest)));
        assert!(!is_too_old(&Version::new(1, 0, 0), None));
    }

    #[test]
    fn an_unknown_toolchain_is_named_in_the_error() {
        let error = probe("no-such-toolchain", None).map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "toolchain no-such-toolchain is not installed"
        );
    }
}
