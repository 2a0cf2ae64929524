//! Whose sockets are whose.

use std::{collections::HashMap, fs, path::Path};

/// The processes that have sockets, by the socket's inode: as many as may be looked at.
pub(super) fn processes() -> HashMap<u64, (String, u32)> {
    let mut found = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse().ok()) else {
            continue;
        };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let mut name = None;
        for file in files.flatten() {
            let Ok(link) = fs::read_link(file.path()) else {
                continue;
            };
            let link = link.to_string_lossy();
            let inode = link
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()) {
                let name = name.get_or_insert_with(|| comm(&entry.path()));
                found.insert(inode, (name.clone(), pid));
            }
        }
    }
    found
}

/// A process's name, fit to be shown: it chose it itself.
fn comm(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    name.trim_end().escape_debug().to_string()
}
