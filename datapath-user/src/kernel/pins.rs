//! Where everything is pinned, and that it is a place where pins can be.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use datapath_common::abi;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

/// The maps' directory. It bears the ABI's version, so that no other version's maps are ever taken for ours.
#[must_use]
pub fn maps(pin_dir: &Path) -> PathBuf {
    pin_dir.join(format!("maps-v{}", abi::VERSION))
}

/// The links' directory: one pin for each program attached, named `PROGRAM-IFINDEX`, `PROGRAM_MODE-IFINDEX` (XDP) or
/// `PROGRAM-cgroup`; and `clsact-IFINDEX` where clsact was made here.
#[must_use]
pub fn links(pin_dir: &Path) -> PathBuf {
    pin_dir.join("links")
}

/// Pins something in one step, in the place of what is there. `make` pins it under the name that it is given.
///
/// # Errors
/// When the kernel refuses.
pub fn put(pin: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = pin.file_name().unwrap_or_default().to_string_lossy();
    let fresh = pin.with_file_name(format!("fresh-{name}"));
    // What a service left that was killed here.
    drop(fs::remove_file(&fresh));
    make(&fresh)?;
    make_private(&fresh)?;
    Ok(fs::rename(&fresh, pin)?)
}

/// Makes the directories, mounts bpffs where it is missing, and refuses what another version pinned.
///
/// # Errors
/// Names the directory and what to do about it.
pub fn prepare(pin_dir: &Path) -> Result<()> {
    ensure_bpffs(pin_dir)?;
    let ours = maps(pin_dir);
    if let Ok(entries) = fs::read_dir(pin_dir) {
        for entry in entries.flatten() {
            let name = entry.file_name();
            let other = name.to_string_lossy();
            if other.starts_with("maps-v") && entry.path() != ours {
                bail!(
                    "pin_dir: {}: another version of datapath pinned its maps here ({other}, this one needs \
                     maps-v{}): take them out with `datapath detach` first",
                    pin_dir.display(),
                    abi::VERSION,
                );
            }
        }
    }
    for dir in [pin_dir, &ours, &links(pin_dir)] {
        fs::create_dir_all(dir).with_context(|| {
            format!(
                "pin_dir: {}: cannot be made; run as root, and name a directory of bpffs",
                dir.display()
            )
        })?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("pin_dir: {}: cannot be made private", dir.display()))?;
    }
    Ok(())
}

/// A pin's mode.
pub const PRIVATE: u32 = 0o600;

/// A pin that others may write is a map that others may write.
///
/// # Errors
/// When the kernel refuses.
pub fn make_private(pin: &Path) -> io::Result<()> {
    fs::set_permissions(pin, fs::Permissions::from_mode(PRIVATE))
}

fn ensure_bpffs(pin_dir: &Path) -> Result<()> {
    if is_bpffs(pin_dir) {
        return Ok(());
    }
    let default = Path::new("/sys/fs/bpf");
    if !pin_dir.starts_with(default) {
        bail!(
            "pin_dir: {}: not on a bpf file system; mount one there (`mount -t bpf bpf DIR`) or name a \
             directory below /sys/fs/bpf",
            pin_dir.display()
        );
    }
    let none: Option<&str> = None;
    mount(Some("bpf"), default, Some("bpf"), MsFlags::empty(), none)
        .context("/sys/fs/bpf: no bpf file system is mounted, and mounting it failed; run as root")
}

/// Whether the nearest directory above that exists lies on a bpf file system.
fn is_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find(|dir| dir.exists())
        .and_then(|dir| statfs(dir).ok())
        .is_some_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}
