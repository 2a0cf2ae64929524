//! iptables rules that Docker wrote, and the policy that it set beside them.

use super::super::{Found, Subject, fine, note, rules::Rules, todo, unknown};
use crate::sources::docker::is_own_bridge;

/// Docker's chains, behind `DOCKER`. `DOCKER-USER` is the administrator's, if there is anything in it.
const CHAINS: &str = "ISOLATION-STAGE-[12]|FORWARD|CT|BRIDGE|INTERNAL|INGRESS";

pub(super) fn look(subject: &Subject) -> Found {
    let mut found = Found::new();
    let bridges = subject.bridges();
    for (save, text) in &subject.rules.printed {
        let tool = save.trim_end_matches("-save");
        let (dockers, users) = Rules::dockers(text, &bridges);
        if dockers > 0 {
            found.push(todo(
                format!("{tool}: {dockers} rules of Docker's"),
                format!(
                    "once Docker was restarted with \"iptables\": false, take out what it left: `{save} | \
                     grep -vE '(^:|-j |-A )DOCKER(-({CHAINS}{}))?( |$)|\
                     -[io] (docker0|docker_gwbridge|br-[0-9a-f]{{12}}{})( |$)' | {tool}-restore`",
                    if users == 0 { "|USER" } else { "" },
                    others(&bridges)
                ),
            ));
        }
        if users > 0 {
            found.push(note(format!(
                "{tool}: {users} rules of yours in DOCKER-USER; they keep their say, so packets take the way through the \
                 stack"
            )));
        }
        if Rules::drops_forwarded(text) {
            found.push(todo(
                format!("{tool}: the FORWARD chain drops what no rule accepts (Docker sets that, and leaves it)"),
                format!(
                    "`{tool} -P FORWARD ACCEPT`, after Docker's rules are gone; or, where the policy is your own, rules \
                     that accept what containers send and get"
                ),
            ));
        }
    }
    for table in &subject.rules.tables {
        found.push(todo(
            format!("nftables: Docker's table {table}"),
            format!(
                "once Docker was restarted with \"iptables\": false: `nft delete table {table}`"
            ),
        ));
    }
    if !subject.rules.refused.is_empty() && !subject.root {
        found.push(unknown(format!(
            "{} cannot be run",
            subject.rules.refused.join(", ")
        )));
    }
    if found.is_empty() {
        found.push(fine("no iptables rule of Docker's"));
    }
    found
}

/// Bridges that Docker did not name, for the expression.
fn others(bridges: &[String]) -> String {
    let others = bridges.iter().filter(|name| !is_own_bridge(name));
    others
        .map(|name| format!("|{}", name.replace('.', "\\.")))
        .collect()
}
