//! One service, and one monitor, for one pin directory.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// Held as long as it runs; the kernel lets go of it when the process ends, however it ends.
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl Lock {
    pub(crate) fn take(pin_dir: &Path, what: &str) -> Result<Self> {
        let name: String = pin_dir.to_string_lossy().replace('/', "-");
        let path = Path::new("/run").join(format!("datapath{name}-{what}.lock"));
        let at = || format!("{}", path.display());
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(at)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
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
