//! Reverse path filters, and loopback addresses that are routed.

use super::super::{Found, Subject, fine, note, subject::sysctl};

pub(super) fn look(subject: &Subject) -> Found {
    let mut found = Found::new();
    let uplinks = subject.uplinks();
    let value = |name: &str, of: &str| {
        let value = sysctl(&format!("net.ipv4.conf.{of}.{name}"));
        value
            .and_then(|value| value.parse::<u8>().ok())
            .unwrap_or(0)
    };
    let strict = |uplink: &&String| value("rp_filter", "all").max(value("rp_filter", uplink)) == 1;
    let filtered: Vec<_> = uplinks.iter().filter(strict).cloned().collect();
    if uplinks.len() > 1 && !filtered.is_empty() {
        found.push(note(format!(
            "rp_filter is strict on {}, and there are {} uplinks: what comes in by one and would be answered by \
             another is dropped by the kernel; where that is meant to work set it to 2",
            filtered.join(", "),
            uplinks.len()
        )));
    }
    let localnet =
        |name: &&String| value("route_localnet", "all").max(value("route_localnet", name)) == 1;
    let bridges = subject.bridges();
    let routed: Vec<_> = uplinks.iter().chain(&bridges).filter(localnet).collect();
    if !routed.is_empty() {
        let names: Vec<_> = routed.into_iter().map(String::as_str).collect();
        found.push(note(format!(
            "route_localnet is 1 on {}: nothing here needs it; packets from outside to 127.0.0.0/8 are dropped all \
             the same",
            names.join(", ")
        )));
    }
    if found.is_empty() {
        found.push(fine("rp_filter and route_localnet are not in the way"));
    }
    found
}
