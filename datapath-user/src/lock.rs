//! One service, and one monitor, for one pin directory.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// What the service holds.
pub(crate) const SERVICE: &str = "service";
/// What a monitor holds.
pub(crate) const MONITOR: &str = "monitor";

/// Held as long as it runs; the kernel lets go of it when the process ends, however it ends.
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

/// Where the lock is.
fn path(pin_dir: &Path, what: &str) -> PathBuf {
    let name: String = pin_dir.to_string_lossy().replace('/', "-");
    Path::new("/run").join(format!("datapath{name}-{what}.lock"))
}

/// Takes the files of locks away that nobody holds.
pub(crate) fn sweep(pin_dir: &Path) {
    for what in [SERVICE, MONITOR] {
        let path = path(pin_dir, what);
        let Ok(file) = File::open(&path) else {
            continue;
        };
        if let Ok(held) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            drop(fs::remove_file(path));
            drop(held);
        }
    }
}

impl Lock {
    pub(crate) fn take(pin_dir: &Path, what: &str) -> Result<Self> {
        let path = path(pin_dir, what);
        let at = || format!("{}", path.display());
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(at)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            // Somebody took it away between the two calls: what is locked is nobody's any more.
            Ok(lock) if !is_at(&lock, &path) => Self::take(pin_dir, what),
            Ok(mut lock) => {
                lock.set_len(0).with_context(at)?;
                write!(lock, "{}", std::process::id()).with_context(at)?;
                Ok(Self(lock))
            }
            Err((mut file, _)) => {
                let mut pid = String::new();
                drop(file.read_to_string(&mut pid));
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                bail!(
                    "pin_dir: {}: another {what} runs on it (process {pid} {}); stop that one first",
                    pin_dir.display(),
                    name.trim(),
                )
            }
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let inode = |data: fs::Metadata| (data.dev(), data.ino());
    let (open, named) = (file.metadata().map(inode), fs::metadata(path).map(inode));
    matches!((open, named), (Ok(open), Ok(named)) if open == named)
}
