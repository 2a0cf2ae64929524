//! Whether the pins are root's alone: whoever may write a pin may write its map.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::super::{Found, Subject, fine, note, todo, unknown};

/// Bits that nobody but the owner should have.
const OTHERS: u32 = 0o077;

pub(super) fn look(subject: &Subject) -> Found {
    let dir = &subject.config.pin_dir;
    let mut open = Vec::new();
    match loose(dir, &mut open) {
        Ok(0) => vec![note(format!("nothing is pinned below {}", dir.display()))],
        Ok(_) if open.is_empty() => vec![fine("the pins are root's alone")],
        Ok(_) => {
            let shown: Vec<_> = open
                .iter()
                .take(3)
                .map(|path| path.display().to_string())
                .collect();
            vec![todo(
                format!(
                    "{} pins may be opened by others: {}",
                    open.len(),
                    shown.join(", ")
                ),
                format!(
                    "`chmod -R go= {0} && chown -R root:root {0}`",
                    dir.display()
                ),
            )]
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            vec![note(format!("nothing is pinned below {}", dir.display()))]
        }
        Err(_) => vec![unknown(format!("{} may not be looked at", dir.display()))],
    }
}

/// Counts what is below a directory, and gathers what others may open.
fn loose(dir: &Path, open: &mut Vec<PathBuf>) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let about = entry.metadata()?;
        count += 1;
        if about.uid() != 0 || about.mode() & OTHERS != 0 {
            open.push(entry.path());
        }
        if about.is_dir() {
            count += loose(&entry.path(), open)?;
        }
    }
    Ok(count)
}
