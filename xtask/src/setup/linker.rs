//! bpf-linker, which turns the compiler's bitcode into an eBPF object.
//!
//! It has to speak the LLVM of the compiler, so it is linked with the very libLLVM that the compiler uses:
//! rustup's or the distribution's. That spares the user LLVM's development packages (500 MB).

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{exec, machine, step::step};

use super::{report::Report, toolchain::Toolchain};

const NAME: &str = "bpf-linker";
const VERSION: &str = "0.13.0";
const WHY: &str = "links the eBPF programs";

/// Finds a linker that understands `toolchain`, or installs one where the build script looks first.
///
/// # Errors
/// When it can't be built.
pub(super) fn ensure(toolchain: &Toolchain, target: &Path, report: &mut Report) -> Result<()> {
    match find(toolchain) {
        Ok(version) => {
            report.found(&version, WHY);
            Ok(())
        }
        Err(reason) => {
            report.installs(NAME, WHY);
            report.note(&format!("{reason:#}"));
            install(toolchain, target)
        }
    }
}

/// The name and version of the linker that is here and will do.
fn find(toolchain: &Toolchain) -> Result<String> {
    // The build script looks in the same order, so that an old one elsewhere does no harm.
    let own = machine::cargo_home().map(|home| home.join("bin").join(NAME));
    let file = own
        .filter(|file| file.exists())
        .or_else(|| machine::program(NAME))
        .context("there is no bpf-linker")?;
    let version = exec::capture(Command::new(&file).arg("--version"))
        .context("the bpf-linker that is here does not run")?;
    // One that has its LLVM inside can't be asked; its makers build it with a recent one.
    if let Some((_, llvm)) = llvm_of(&file)
        && llvm < toolchain.llvm
    {
        bail!(
            "the bpf-linker that is here reads LLVM {llvm}, the compiler writes {}",
            toolchain.llvm
        );
    }
    Ok(version)
}

fn install(toolchain: &Toolchain, target: &Path) -> Result<()> {
    let home = machine::cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    let (library, llvm) = llvm_of(&toolchain.rustc()).with_context(|| {
        format!(
            "{} has no libLLVM to link bpf-linker with: install one with `cargo binstall {NAME}`",
            toolchain.rustc().display()
        )
    })?;
    let prefix = link_name(&library, target)?;
    let directory = library.parent().context("a library has no directory")?;
    step(
        &format!("cargo install {NAME} {VERSION} (about a minute)"),
        exec::cargo()
            .env("LLVM_PREFIX", &prefix)
            .env(
                "RUSTFLAGS",
                format!("-Clink-arg=-Wl,-rpath,{}", directory.display()),
            )
            .args(["install", NAME, "--version", VERSION, "--locked", "--force"])
            .args([
                "--no-default-features",
                "--features",
                &format!("llvm-{llvm}"),
            ])
            .arg("--root")
            .arg(home),
    )
    .with_context(|| format!("cannot install {NAME}; is crates.io reachable from here?"))?;
    find(toolchain).map(|_| ())
}

/// A prefix, as LLVM's own installation has it, in which `-lLLVM` finds `library`.
fn link_name(library: &Path, target: &Path) -> Result<PathBuf> {
    let prefix = target.join("llvm");
    let lib = prefix.join("lib");
    let name = lib.join("libLLVM.so");
    fs::create_dir_all(&lib).with_context(|| format!("cannot make {}", lib.display()))?;
    if name.is_symlink() {
        fs::remove_file(&name).with_context(|| format!("cannot remove {}", name.display()))?;
    }
    symlink(library, &name).with_context(|| format!("cannot make {}", name.display()))?;
    Ok(prefix)
}

/// The libLLVM that `program` is linked with, and its version.
fn llvm_of(program: &Path) -> Option<(PathBuf, u64)> {
    let libraries = exec::capture(Command::new("ldd").arg(program)).ok()?;
    libraries.lines().find_map(library_of)
}

/// From a line of ldd, `libLLVM.so.22.1 => /usr/lib/.../libLLVM.so.22.1 (0x00007fea08a00000)`.
fn library_of(line: &str) -> Option<(PathBuf, u64)> {
    let (name, file) = line.trim().split_once(" => ")?;
    let version = name.strip_prefix("libLLVM")?;
    let version = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    let digits = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    let file = file.split_once(" (").map_or(file, |(file, _)| file);
    Some((PathBuf::from(file), version[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_name_the_library_is_understood() {
        for (line, file, version) in [
            (
                "\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x00007fea08a00000)",
                "/usr/lib/llvm-22/lib/libLLVM.so.22.1",
                22,
            ),
            (
                "\tlibLLVM.so.23.1-rust-1.98.0-nightly => /r/lib/libLLVM.so.23.1-rust-1.98.0-nightly (0x7f)",
                "/r/lib/libLLVM.so.23.1-rust-1.98.0-nightly",
                23,
            ),
            (
                "\tlibLLVM-14.so.1 => /lib/x86_64-linux-gnu/libLLVM-14.so.1 (0x7f)",
                "/lib/x86_64-linux-gnu/libLLVM-14.so.1",
                14,
            ),
        ] {
            assert_eq!(
                library_of(line),
                Some((PathBuf::from(file), version)),
                "{line}"
            );
        }
    }

    #[test]
    fn other_libraries_are_not_it() {
        assert_eq!(library_of("\tlibz.so.1 => /lib/libz.so.1 (0x7f)"), None);
        assert_eq!(library_of("\tstatically linked"), None);
        assert_eq!(library_of(""), None);
    }
}
