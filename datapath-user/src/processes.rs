//! Processes of this host, by `/proc`: those of this network namespace, since an engine in another is none of ours.

use std::{fs, path::Path};

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its arguments, the program's name first.
    pub arguments: Vec<String>,
}

impl Process {
    /// The value of a flag `--name=value` or `--name value`, the last one if there are several.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<&str> {
        let mut found = None;
        for (index, argument) in self.arguments.iter().enumerate().skip(1) {
            let Some(rest) = argument.trim_start_matches('-').strip_prefix(name) else {
                continue;
            };
            if !argument.starts_with('-') {
                continue;
            }
            if let Some(value) = rest.strip_prefix('=') {
                found = Some(value);
            } else if rest.is_empty() {
                let next = self.arguments.get(index + 1).map(String::as_str);
                found = Some(next.filter(|next| !next.starts_with('-')).unwrap_or("true"));
            }
        }
        found
    }
}

/// The processes of this name (as `ps -o comm` has it: 15 bytes at the most) in this network namespace. Whose
/// namespace may not be seen counts.
#[must_use]
pub fn named(name: &str) -> Vec<Process> {
    let own = fs::read_link("/proc/self/ns/net").ok();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let at = entry.path();
            let comm = fs::read_to_string(at.join("comm")).ok()?;
            let there = fs::read_link(at.join("ns/net")).ok();
            let here = there.is_none() || own.is_none() || there == own;
            (comm.trim_end() == name && here).then(|| Process {
                pid,
                arguments: arguments(&at),
            })
        })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

fn arguments(process: &Path) -> Vec<String> {
    let bytes = fs::read(process.join("cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let arguments = text.trim_end_matches('\0').split('\0');
    arguments.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_with_their_values_however_they_are_written() {
        let arguments = "dockerd --iptables=true -iptables=false --config-file /x --debug -H fd://";
        let process = Process {
            pid: 1,
            arguments: arguments.split(' ').map(str::to_owned).collect(),
        };
        assert_eq!(process.flag("iptables"), Some("false"));
        assert_eq!(process.flag("config-file"), Some("/x"));
        assert_eq!(process.flag("debug"), Some("true"));
        assert_eq!(process.flag("ip"), None);
        assert_eq!(process.flag("userland-proxy"), None);
    }

    #[test]
    fn this_process_is_found() {
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        let all = named(comm.trim_end());
        assert!(all.iter().any(|process| process.pid == std::process::id()));
        assert_eq!(named("no such process"), []);
    }
}
