//! `docs/reachability.md`: what was found, as tables.

use std::fmt::Write as _;

use super::{
    probe::{Answer, Cell},
    targets::{self, Kind, Target},
    topology::Source,
};

const HEAD: &str = "\
# Who reaches what

Written by a test, which asks every target from every source with real TCP and UDP sockets, and fails when a cell that
should be closed is open, one that should be open is closed, somebody else answers, or this page is stale.
`DATAPATH_WRITE_DOCS=1 cargo xtask test --only every_cell` writes it anew: then Docker 20.10 is asked too, with its own
iptables, ip6tables and docker-proxy in the same topology. What it does stands beside an answer where it is another.

A row is a published port (by the address that it is published on, then the address that is dialled) or a container's
own address. **yes**: the container answered, over TCP and UDP. **no**: nobody did.

| column | who asks |
| --- | --- |
| LAN | a host of the network outside, which routes the containers' subnets to the Docker host |
| second | another one, which also sends 127.0.0.0/8 there (and the host has `route_localnet` on) |
| far | a host behind a router |
| host | a process of the Docker host itself |
| same | a container of the target's network; that of the first also sends 127.0.0.0/8 to its gateway |
| other | a container of another network |
| internal | a container of an internal network, with a default route to its gateway |
| itself | the target's own container |
";

/// The whole page.
pub(crate) fn write(ours: &[Cell], docker: &[Cell]) -> String {
    let mut page = HEAD.to_owned();
    for (title, six) in [("IPv4", false), ("IPv6", true)] {
        let _ = write!(page, "\n## {title}\n\n| target |");
        for source in Source::ALL {
            let _ = write!(page, " {} |", format!("{source:?}").to_lowercase());
        }
        page.push_str("\n| --- |");
        page.push_str(&" --- |".repeat(Source::ALL.len()));
        page.push('\n');
        for target in targets::all() {
            if target.addr.is_ipv6() == six {
                page.push_str(&row(&target, ours, docker));
            }
        }
    }
    page
}

/// What a page says of datapath, and of nothing that may be one way or the other.
pub(crate) fn ours(page: &str) -> String {
    let optional: Vec<_> = targets::all()
        .into_iter()
        .filter(|target| target.kind == Kind::Crossing)
        .map(|target| format!("| {} |", target.says))
        .collect();
    let lines = page
        .lines()
        .filter(|line| !optional.iter().any(|row| line.starts_with(row)));
    let mut kept = String::new();
    for line in lines {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once(" (Docker: ") {
            kept.push_str(before);
            rest = after.split_once(')').map_or("", |(_, after)| after);
        }
        kept.push_str(rest);
        kept.push('\n');
    }
    kept
}

/// A target's row.
fn row(target: &Target, ours: &[Cell], docker: &[Cell]) -> String {
    let mut row = format!("| {} |", target.says);
    let mut pairs = ours.iter().zip(docker);
    while let Some((own, other)) = pairs.find(|(cell, _)| cell.target == *target) {
        let (own, other) = (shown(own), shown(other));
        if own == other {
            let _ = write!(row, " {own} |");
        } else {
            let _ = write!(row, " {own} (Docker: {other}) |");
        }
    }
    row.push('\n');
    row
}

/// What a cell says.
fn shown(cell: &Cell) -> &'static str {
    let right = |answer: &Answer| answer.as_deref() == Some(cell.target.container);
    match (right(&cell.tcp), right(&cell.udp)) {
        (true, true) => "yes",
        (true, false) => "TCP",
        (false, true) => "UDP",
        (false, false) => "no",
    }
}
