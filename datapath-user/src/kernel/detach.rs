//! Everything out of the kernel again.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};

/// Removes every pin below `pin_dir`, and the directory: links first, so that programs stop before their maps
/// go. Returns a line for each thing that it took out; nothing when there was nothing.
///
/// # Errors
/// When a pin cannot be removed.
pub fn detach(pin_dir: &Path) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    let entries = match fs::read_dir(pin_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(removed),
        Err(error) => return Err(error).with_context(|| format!("{}", pin_dir.display())),
    };
    let mut dirs: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    // "links" before "maps-v...".
    dirs.sort();
    for dir in dirs.iter().filter(|dir| dir.is_dir()) {
        let mut pins: Vec<_> = fs::read_dir(dir)?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        pins.sort();
        for pin in pins {
            fs::remove_file(&pin).with_context(|| format!("{}", pin.display()))?;
            let name = pin.strip_prefix(pin_dir).unwrap_or(&pin);
            removed.push(name.display().to_string());
        }
        fs::remove_dir(dir).with_context(|| format!("{}", dir.display()))?;
    }
    fs::remove_dir(pin_dir).with_context(|| format!("{}", pin_dir.display()))?;
    Ok(removed)
}
