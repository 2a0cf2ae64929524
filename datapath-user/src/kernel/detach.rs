//! Everything out of the kernel again.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result, bail};

use super::{
    attach::{self, Means},
    netns, pins,
    tables::Tables,
};

/// Removes every pin below `pin_dir`, and the directory: links first, so that programs stop before their maps
/// go. Returns a line for each thing that it took out; nothing when there was nothing.
///
/// # Errors
/// When a pin cannot be removed, and when something is there that no version of datapath put there: that stays.
pub fn detach(pin_dir: &Path) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    let entries = match fs::read_dir(pin_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(removed),
        Err(error) => return Err(error).with_context(|| format!("{}", pin_dir.display())),
    };
    let mut all: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    // "links" before "maps-v...".
    all.sort();
    let (dirs, strange): (Vec<_>, Vec<_>) = all.into_iter().partition(|path| is_ours(path));
    for dir in dirs {
        let mut pins: Vec<_> = fs::read_dir(&dir)?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        // The programs before what says that clsact was made for them.
        pins.sort_by_key(|pin| (hook_of(pin).is_none(), pin.clone()));
        for pin in pins {
            if let Some((program, ifindex)) = hook_of(&pin) {
                attach::take_off(&pin, &program, ifindex)?;
            }
            match fs::remove_file(&pin) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.with_context(|| format!("{}", pin.display()))?,
            }
            let name = pin.strip_prefix(pin_dir).unwrap_or(&pin);
            removed.push(name.display().to_string());
        }
        fs::remove_dir(&dir).with_context(|| format!("{}", dir.display()))?;
    }
    if let Some(first) = strange.first() {
        bail!(
            "{}: not of datapath's making: it stays, and so does pin_dir; everything else is taken out",
            first.display()
        );
    }
    fs::remove_dir(pin_dir).with_context(|| format!("{}", pin_dir.display()))?;
    Ok(removed)
}

/// Refuses to look for filters of clsact in another network namespace than the service's.
///
/// # Errors
/// Names the remedy.
pub fn require_netns(pin_dir: &Path, tables: &Tables) -> Result<()> {
    let pins = fs::read_dir(pins::links(pin_dir)).into_iter().flatten();
    let mut pins = pins.flatten().map(|entry| entry.path());
    if pins.any(|pin| hook_of(&pin).is_some() && Means::of(&pin).ok() == Some(Means::Clsact))
        && tables.settings()?.get(&0, 0)?.netns != netns::cookie()?
    {
        bail!(
            "pin_dir: {}: the programs are attached in another network namespace; detach there \
             (`nsenter --net=/run/netns/NAME datapath detach`)",
            pin_dir.display()
        );
    }
    Ok(())
}

/// The classifier and interface of a pin.
fn hook_of(pin: &Path) -> Option<(String, u32)> {
    let name = pin.file_name()?.to_str()?;
    let (program, ifindex) = attach::parse_classifier(name)?;
    Some((program.to_owned(), ifindex))
}

/// A directory that some version of datapath made.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let dir = fs::symlink_metadata(path).is_ok_and(|data| data.is_dir());
    dir && (name == "links" || name.starts_with("maps-v"))
}
