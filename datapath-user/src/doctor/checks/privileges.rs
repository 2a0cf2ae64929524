//! Whether this command may see everything, and whether a service started like it could work.

use std::fs;

use super::super::{Found, Subject, fine, note, unknown};

/// What loading programs takes, by the numbers of include/uapi/linux/capability.h.
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

pub(super) fn look(subject: &Subject) -> Found {
    if !subject.root {
        return vec![unknown(
            "not root: rules, programs and pins of this host cannot be looked at",
        )];
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    // CAP_SYS_ADMIN holds the two newer ones.
    let has = |bit: u32| effective.is_none_or(|bits| bits & (1 << bit | 1 << 21) != 0);
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(bit, _)| !has(*bit))
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        vec![fine("root, with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    } else {
        vec![note(format!(
            "root without {}: a service started from here could not load its programs",
            missing.join(", ")
        ))]
    }
}
