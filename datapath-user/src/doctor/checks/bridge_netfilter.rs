//! Whether frames between two ports of one bridge pass the host's iptables too.

use super::super::{Found, Subject, fine, note, rules::Rules, subject::sysctl, todo};

pub(super) fn look(subject: &Subject) -> Found {
    let mut found = Found::new();
    for (setting, tool) in [
        ("net.bridge.bridge-nf-call-iptables", "iptables"),
        ("net.bridge.bridge-nf-call-ip6tables", "ip6tables"),
    ] {
        if sysctl(setting).as_deref() != Some("1") {
            continue;
        }
        let mut printed = subject.rules.printed.iter();
        let drops =
            printed.any(|(save, text)| save.starts_with(tool) && Rules::drops_forwarded(text));
        if drops {
            found.push(todo(
                format!("{setting} is 1, and {tool} drops what no rule accepts: containers of one network lose each other"),
                format!("`sysctl -w {setting}=0`, or `{tool} -P FORWARD ACCEPT`"),
            ));
        } else {
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
