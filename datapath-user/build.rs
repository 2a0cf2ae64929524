//! Compiles the eBPF programs and leaves the object where `kernel::object` embeds it.
//!
//! `core` has to be built for the BPF machine, so a toolchain with its source is needed: `ebpf`, which the
//! set-up task links where a distribution ships a matching pair, else `nightly` with `rust-src`. What is
//! missing is said here, before cargo says it in the words of a linker.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};

/// Names the toolchain outright, for machines that have neither of the two.
const CHOICE: &str = "DATAPATH_EBPF_TOOLCHAIN";

const REMEDY: &str = "`cargo xtask setup --build-only` installs what is missing";

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed={CHOICE}");
    println!("cargo:rerun-if-changed=../datapath-common/src");
    let toolchain = toolchain()?;
    let path = search_path()?;
    let linker = linker(&path)?;
    // Another linker, or another version of it, makes another object.
    println!("cargo:rerun-if-changed={}", linker.display());
    // SAFETY: a build script has one thread here; nothing reads the environment meanwhile.
    unsafe {
        env::set_var("PATH", path);
        // `-Z build-std` with a compiler that is not a nightly.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // Each line of the inner cargo is shown as a warning; its errors come all the same.
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    build_ebpf(
        [Package {
            name: "datapath-ebpf",
            root_dir: "../datapath-ebpf",
            ..Package::default()
        }],
        Toolchain::Custom(&toolchain),
    )
    .with_context(|| {
        format!(
            "the eBPF programs did not build with toolchain {toolchain} and {}; \
             the compiler's own words stand above, as warnings",
            linker.display()
        )
    })
}

fn toolchain() -> Result<String> {
    if let Ok(name) = env::var(CHOICE) {
        return Ok(name);
    }
    ["ebpf", "nightly"]
        .into_iter()
        .find(|name| has_source_of_core(name))
        .map(str::to_owned)
        .with_context(|| {
            format!(
                "neither toolchain `ebpf` nor `nightly` is there with the source of core: {REMEDY}"
            )
        })
}

fn has_source_of_core(toolchain: &str) -> bool {
    let sysroot = Command::new("rustup")
        .args(["run", toolchain, "rustc", "--print", "sysroot"])
        .output();
    sysroot.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout);
        output.status.success()
            && Path::new(sysroot.trim())
                .join("lib/rustlib/src/rust/library/core/src/lib.rs")
                .exists()
    })
}

/// `PATH`, and before it the directory where cargo installs programs: not every user has it there.
fn search_path() -> Result<OsString> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = home.map(|home| home.join("bin")).into_iter();
    env::join_paths(directories.chain(env::split_paths(&path))).context("PATH can't be extended")
}

fn linker(path: &OsString) -> Result<PathBuf> {
    let found = env::split_paths(path)
        .map(|directory| directory.join("bpf-linker"))
        .find(|file| file.is_file());
    match found {
        Some(file) => Ok(file),
        None => bail!("there is no bpf-linker: {REMEDY}"),
    }
}
