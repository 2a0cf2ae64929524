//! Who we are on this machine, and which programs it has.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// Where distributions keep the programs of the administrator: not on every user's `PATH`.
const ADMIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// What the tests need beside the user id: a container may run as root and have none of it.
/// Numbers of include/uapi/linux/capability.h.
const CAPABILITIES: [(u32, &str); 3] = [
    (12, "CAP_NET_ADMIN"),
    (21, "CAP_SYS_ADMIN"),
    (39, "CAP_BPF"),
];

/// How to become root without losing rustup, which lives in the user's home.
const SUDO: &str = r#"sudo env "HOME=$HOME" "PATH=$PATH" cargo xtask"#;

/// Whether this process runs as root.
pub fn is_root() -> bool {
    // The owner of /proc/self is the effective user.
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Refuses to go on with `task` without the privileges that real network namespaces and programs need.
///
/// # Errors
/// With the remedy, when not root or when a capability is missing.
pub fn require_root(task: &str) -> Result<()> {
    if !is_root() {
        bail!(
            "`{task}` makes network namespaces and loads eBPF programs, which needs root: \
             run `{SUDO} {task}`"
        );
    }
    let status =
        fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let missing = missing_capabilities(&status)?;
    if !missing.is_empty() {
        bail!(
            "`{task}` runs as root but without {}: a container needs `--privileged`",
            missing.join(", ")
        );
    }
    Ok(())
}

fn missing_capabilities(status: &str) -> Result<Vec<&'static str>> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .context("/proc/self/status has no line CapEff")?;
    let effective = u64::from_str_radix(effective.trim(), 16)
        .with_context(|| format!("CapEff is not a number: {effective}"))?;
    let missing = CAPABILITIES
        .iter()
        .filter(|(bit, _)| effective & (1 << bit) == 0)
        .map(|(_, name)| *name);
    Ok(missing.collect())
}

/// The program `name`, as the user's `PATH` and the administrator's directories have it.
pub fn program(name: &str) -> Option<PathBuf> {
    env::split_paths(&path())
        .map(|directory| directory.join(name))
        .find(|file| is_executable(file))
}

/// `PATH` with the administrator's directories at its end, for commands that need `dockerd` or `nft`.
pub fn path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<_> = env::split_paths(&path).collect();
    for directory in ADMIN.map(PathBuf::from) {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    // A directory whose name has a colon in it can't have come out of PATH.
    env::join_paths(directories).unwrap_or(path)
}

/// Where `cargo install` puts programs.
pub fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_and_a_file_is_not_a_program() {
        assert!(program("sh").is_some());
        assert_eq!(program("no-such-program-anywhere"), None);
        assert!(!is_executable(Path::new("/etc/passwd")));
    }

    #[test]
    fn the_administrators_directories_are_on_the_path_once() {
        let directories: Vec<_> = env::split_paths(&path()).collect();
        for admin in ADMIN.map(PathBuf::from) {
            assert!(directories.contains(&admin));
        }
    }

    #[test]
    fn capabilities_are_read_bit_by_bit() {
        let all = "Name:\tx\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n";
        assert_eq!(missing_capabilities(all).unwrap(), [""; 0]);
        let docker = "CapEff:\t00000000a80425fb\n";
        assert_eq!(
            missing_capabilities(docker).unwrap(),
            ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_BPF"]
        );
        assert!(missing_capabilities("Name: x").is_err());
    }
}
