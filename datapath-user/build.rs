//! Compiles the eBPF programs and leaves the object where `kernel::object` embeds it.
//!
//! `core` has to be built for the BPF machine, so a toolchain with its source is needed: `ebpf`, which the
//! set-up task links where a distribution ships a matching pair, else `nightly` with `rust-src`.

use std::{env, process::Command};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain, build_ebpf};

/// Names the toolchain outright, for machines that have neither of the two.
const TOOLCHAIN: &str = "DATAPATH_EBPF_TOOLCHAIN";

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed={TOOLCHAIN}");
    println!("cargo:rerun-if-changed=../datapath-common/src");
    let toolchain = env::var(TOOLCHAIN).unwrap_or_else(|_| {
        let name = if usable("ebpf") { "ebpf" } else { "nightly" };
        name.to_owned()
    });
    // SAFETY: a build script has one thread here; nothing reads the environment meanwhile.
    unsafe { env::set_var("RUSTC_BOOTSTRAP", "1") };
    build_ebpf(
        [Package {
            name: "datapath-ebpf",
            root_dir: "../datapath-ebpf",
            ..Package::default()
        }],
        Toolchain::Custom(&toolchain),
    )
    .with_context(|| format!("the eBPF programs did not build with toolchain {toolchain}; `cargo xtask setup` installs what they need"))
}

fn usable(toolchain: &str) -> bool {
    Command::new("rustup")
        .args(["run", toolchain, "rustc", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}
