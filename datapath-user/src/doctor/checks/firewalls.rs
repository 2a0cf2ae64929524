//! Programs that manage the host's firewall.

use std::fs;

use super::super::{Found, Subject, fine, note, todo};
use crate::processes;

pub(super) fn look(_: &Subject) -> Found {
    let mut found = Found::new();
    if !processes::named("firewalld").is_empty() {
        found.push(note(
            "firewalld runs: its rules keep their say, so packets take the way through the stack; containers' bridges \
             belong into a zone that forwards (`firewall-cmd --permanent --zone=trusted --add-interface=docker0`), and \
             published ports need no rule",
        ));
    }
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let ufw = read("/etc/ufw/ufw.conf");
    if ufw
        .lines()
        .any(|line| line.trim().eq_ignore_ascii_case("enabled=yes"))
    {
        let defaults = read("/etc/default/ufw");
        let policy = defaults.lines().find_map(|line| {
            let value = line.trim().strip_prefix("DEFAULT_FORWARD_POLICY=")?;
            Some(value.trim_matches('"').to_owned())
        });
        found.push(match policy.as_deref() {
            Some("ACCEPT") => note(
                "ufw is active: its rules keep their say, so packets take the way through the stack",
            ),
            _ => todo(
                "ufw is active, and drops what is forwarded without a rule: no published port answers",
                "allow each port with `ufw route allow proto tcp to any port CPORT` (the container's port), or set \
                 DEFAULT_FORWARD_POLICY=\"ACCEPT\" in /etc/default/ufw and `ufw reload`",
            ),
        });
    }
    if found.is_empty() {
        found.push(fine("neither firewalld nor ufw is active"));
    }
    found
}
