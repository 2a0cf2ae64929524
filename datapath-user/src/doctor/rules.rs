//! The host's iptables, as its own tools print them, and what of them is Docker's.

use std::{collections::BTreeMap, process::Command};

use crate::sources::docker::is_own_bridge;

/// The tools: those that are in use, and those of the older kind, whose rules the kernel may hold beside.
const TOOLS: [&str; 4] = [
    "iptables-save",
    "ip6tables-save",
    "iptables-legacy-save",
    "ip6tables-legacy-save",
];

/// What the tools print, by their names. The same text twice is one set of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) printed: BTreeMap<&'static str, String>,
    /// Tools that are there and could not be run.
    pub(super) refused: Vec<&'static str>,
    /// Tables that an engine with nftables made.
    pub(super) tables: Vec<String>,
}

impl Rules {
    pub(super) fn read() -> Self {
        let mut rules = Self::default();
        for tool in TOOLS {
            let Ok(output) = Command::new(tool).output() else {
                continue;
            };
            if !output.status.success() {
                rules.refused.push(tool);
                continue;
            }
            let text = String::from_utf8_lossy(&output.stdout);
            let text: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
            let text = text.join("\n");
            if !text.is_empty() && !rules.printed.values().any(|other| *other == text) {
                rules.printed.insert(tool, text);
            }
        }
        let tables = Command::new("nft").args(["list", "tables"]).output();
        if let Ok(tables) = tables {
            let tables = String::from_utf8_lossy(&tables.stdout).into_owned();
            let of_engine = |table: &&str| table.ends_with(" docker-bridges");
            rules.tables = tables
                .lines()
                .filter_map(|line| line.strip_prefix("table "))
                .filter(of_engine)
                .map(str::to_owned)
                .collect();
        }
        rules
    }

    /// How many of a tool's rules are Docker's, and how many the administrator's own in `DOCKER-USER`. Where there is
    /// none of these, what leads there is Docker's too.
    pub(super) fn dockers(text: &str, bridges: &[String]) -> (usize, usize) {
        let (mut dockers, mut users, mut jumps) = (0, 0, 0);
        for rule in text.lines().filter(|line| line.starts_with("-A ")) {
            if rule == "-A DOCKER-USER -j RETURN" || rule.ends_with(" -j DOCKER-USER") {
                jumps += 1;
            } else if rule.starts_with("-A DOCKER-USER ") {
                users += 1;
            } else if is_dockers(rule, bridges) {
                dockers += 1;
            }
        }
        (if users == 0 { dockers + jumps } else { dockers }, users)
    }

    /// Whether the chain that forwarded packets pass drops what no rule accepts.
    pub(super) fn drops_forwarded(text: &str) -> bool {
        text.lines().any(|line| line.starts_with(":FORWARD DROP"))
    }
}

/// Whether Docker wrote a rule: it names one of its chains, or one of its bridges as Docker does.
fn is_dockers(rule: &str, bridges: &[String]) -> bool {
    let words: Vec<_> = rule.split(' ').collect();
    let chain = |word: &&str| word.starts_with("DOCKER") && *word != "DOCKER-USER";
    if words.iter().any(chain) {
        return true;
    }
    let bridge = |name: &str| is_own_bridge(name) || bridges.iter().any(|bridge| bridge == name);
    words
        .windows(2)
        .any(|pair| matches!(pair, ["-i" | "-o", name] if bridge(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As dockerd 20.10 writes them.
    const TEXT: &str = "*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i br-0123456789ab -j ACCEPT
-A FORWARD -i br-lan -j ACCEPT
-A FORWARD -i own0 -j ACCEPT
-A DOCKER-USER -s 192.0.2.0/24 -j DROP
-A DOCKER-USER -j RETURN
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT";

    #[test]
    fn dockers_rules_are_told_from_others() {
        assert_eq!(Rules::dockers(TEXT, &[]), (6, 1));
        assert_eq!(Rules::dockers(TEXT, &["own0".to_owned()]), (7, 1));
        let without = TEXT.replace("-A DOCKER-USER -s 192.0.2.0/24 -j DROP\n", "");
        assert_eq!(Rules::dockers(&without, &[]), (8, 0));
        assert!(Rules::drops_forwarded(TEXT));
        assert!(!Rules::drops_forwarded(":FORWARD ACCEPT [0:0]"));
    }
}
