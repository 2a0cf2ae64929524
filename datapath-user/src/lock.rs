//! One service, and one monitor, for one pin directory.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Error, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// What the service holds.
pub(crate) const SERVICE: &str = "service";
/// What a monitor holds.
pub(crate) const MONITOR: &str = "monitor";

/// Held as long as it runs; the kernel lets go of it when the process ends, however it ends.
///
/// The file goes with the lock. Whoever was killed leaves it behind, locked by nobody: the next one takes it.
pub(crate) struct Lock {
    path: PathBuf,
    // Dropped after the file is gone.
    held: Flock<File>,
}

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its process; `None` in the moment before it has said so.
    pub(crate) pid: Option<i32>,
}

impl Holder {
    /// Its process, if that one has the file open indeed: a number alone may be another's by now, or another
    /// PID namespace's.
    pub(crate) fn confirmed(self, pin_dir: &Path, what: &str) -> Option<i32> {
        let pid = self.pid?;
        let lock = fs::metadata(path(pin_dir, what)).ok()?;
        let mut open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let is_it = |file: fs::DirEntry| {
            fs::metadata(file.path()).is_ok_and(|data| identity(&data) == identity(&lock))
        };
        open.any(is_it).then_some(pid)
    }
}

impl Lock {
    /// Takes it, or refuses and says who has it.
    pub(crate) fn take(pin_dir: &Path, what: &str) -> Result<Self> {
        match Self::try_take(pin_dir, what)? {
            Ok(lock) => Ok(lock),
            Err(Holder { pid }) => {
                let pid = pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                bail!(
                    "pin_dir: {}: another {what} runs on it (process {pid} {}); stop that one first",
                    pin_dir.display(),
                    name.trim(),
                )
            }
        }
    }

    /// Takes it, or says who has it.
    pub(crate) fn try_take(pin_dir: &Path, what: &str) -> Result<Result<Self, Holder>> {
        let path = path(pin_dir, what);
        let at = || format!("{}", path.display());
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(|error| {
                    let denied = error.kind() == io::ErrorKind::PermissionDenied;
                    let remedy = if denied { ": run as root" } else { "" };
                    Error::new(error).context(format!("{}{remedy}", path.display()))
                })?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // The one who had it took the file away in between: what we locked is nobody's any more.
                Ok(lock) if !is_at(&lock, &path) => {}
                Ok(held) => {
                    let path = path.clone();
                    // From here the file goes with it, whatever fails.
                    let mut lock = Self { path, held };
                    lock.held.set_len(0).with_context(at)?;
                    write!(lock.held, "{}", std::process::id()).with_context(at)?;
                    return Ok(Ok(lock));
                }
                Err((mut file, _)) => {
                    let mut pid = String::new();
                    drop(file.read_to_string(&mut pid));
                    let pid = pid.parse().ok();
                    return Ok(Err(Holder { pid }));
                }
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

fn path(pin_dir: &Path, what: &str) -> PathBuf {
    let name = pin_dir.to_string_lossy().replace('/', "-");
    Path::new("/run").join(format!("datapath{name}-{what}.lock"))
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => identity(&ours) == identity(&there),
        _ => false,
    }
}

fn identity(data: &fs::Metadata) -> (u64, u64) {
    (data.dev(), data.ino())
}
