//! Files that are there whole or not at all, with the mode and the owner that they had.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

/// The place that a path leads to when every symbolic link is followed, whether something is there or not.
///
/// # Errors
/// When links lead round in a circle, or may not be read.
pub(super) fn resolve(path: &Path) -> io::Result<PathBuf> {
    /// As many as the kernel follows.
    const LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(to) => path = path.parent().unwrap_or(Path::new("/")).join(to),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("symbolic links lead round in a circle"))
}

/// A file's text; `None` where there is none.
///
/// # Errors
/// When it cannot be read.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file in one step: whoever opens it finds the old text or the new one. `like` is the file whose mode and
/// owner it takes, if it is there.
///
/// # Errors
/// When it cannot be written; then nothing has changed.
pub(super) fn replace(path: &Path, text: &str, like: &Path) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = dir.join(format!(".{name}.{}", std::process::id()));
    let written = write(&new, text, like).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        drop(fs::remove_file(&new));
    }
    written?;
    File::open(dir)?.sync_all()
}

fn write(path: &Path, text: &str, like: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let (mode, owner) = match fs::metadata(like) {
        Ok(old) => (old.mode() & 0o7777, Some((old.uid(), old.gid()))),
        Err(error) if error.kind() == ErrorKind::NotFound => (0o644, None),
        Err(error) => return Err(error),
    };
    if let Some((user, group)) = owner {
        chown(path, Some(user), Some(group))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
