//! Whether frames between two ports of one bridge pass the host's iptables too.

use super::super::{Found, Subject, fine, note, subject::sysctl};

pub(super) fn look(_: &Subject) -> Found {
    let mut found = Found::new();
    for (setting, tool) in [
        ("net.bridge.bridge-nf-call-iptables", "iptables"),
        ("net.bridge.bridge-nf-call-ip6tables", "ip6tables"),
    ] {
        if sysctl(setting).as_deref() == Some("1") {
            found.push(note(format!(
                "{setting} is 1: frames between containers of one network pass {tool} too, which costs time; \
                 `sysctl -w {setting}=0` unless rules of yours count on it"
            )));
        }
    }
    if found.is_empty() {
        found.push(fine("frames on bridges do not pass iptables"));
    }
    found
}
