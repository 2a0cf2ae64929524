//! Every metric: its name, its type, what it says, its labels, and where it is read. docs/metrics.md shows the
//! same table; a test compares the two.

use std::collections::BTreeMap;

use super::Snapshot;
use crate::view::PortView;

/// A metric's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up, and begins anew when the maps do.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// The name in the exposition.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// The values of a metric's labels, and its own.
pub(super) type Sample = (Vec<String>, u64);

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, without the `_total` that a counter's samples end with.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Reads it.
    pub(super) read: fn(&Snapshot) -> Vec<Sample>,
}

impl Metric {
    /// The name that its samples bear.
    #[must_use]
    pub fn sample_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge => self.name.to_owned(),
        }
    }
}

macro_rules! metrics {
    ($($name:literal $kind:ident [$($label:literal)*] $help:literal $read:expr;)+) => {
        /// Every metric.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            help: $help,
            labels: &[$($label),*],
            read: $read,
        }),+];
    };
}

metrics! {
    "datapath_build_info" Gauge ["version"] "Always 1; the label is the service's version"
        |all| vec![(vec![all.status.version.clone()], 1)];
    "datapath_ready" Gauge [] "1 when what is configured is in force"
        |all| one(all.status.ready.into());
    "datapath_uptime_seconds" Gauge [] "Seconds since the service started"
        |all| one(all.status.uptime);
    "datapath_reconciliations" Counter [] "How often maps and hooks were compared with what should be"
        |all| one(all.status.reconciliations);
    "datapath_reconcile_errors" Counter [] "How often something could not be brought into force"
        |all| one(all.status.reconcile_errors);
    "datapath_problems" Gauge [] "Problems that `datapath status` lists"
        |all| one(all.status.problems.len() as u64);
    "datapath_docker_connected" Gauge [] "1 when Docker speaks to the service; absent where it is not followed"
        |all| all.status.docker.map_or_else(Vec::new, |docker| one(docker.into()));
    "datapath_forwarding_fast" Gauge ["family"] "1 when packets of flows go past the stack"
        |all| vec![
            (vec!["ipv4".to_owned()], all.status.forwarding.ipv4.fast.into()),
            (vec!["ipv6".to_owned()], all.status.forwarding.ipv6.fast.into()),
        ];
    "datapath_nat64" Gauge [] "1 when IPv6 clients of the network reach IPv4 endpoints"
        |all| one(all.status.forwarding.nat64.on.into());
    "datapath_attachments" Gauge ["program"] "Interfaces (or cgroups) that a program is attached to"
        attachments;
    "datapath_packets" Counter ["reason" "outcome"] "Packets by what became of them, and why"
        |all| reasons(all, |count| count.packets);
    "datapath_bytes" Counter ["reason" "outcome"] "Bytes of those packets, whole frames"
        |all| reasons(all, |count| count.bytes);
    "datapath_port_flows" Counter ["address" "port" "protocol" "source" "owner"]
        "Flows that a published port opened"
        |all| ports(all, |port| port.stats.flows);
    "datapath_port_packets" Counter ["address" "port" "protocol" "source" "owner"]
        "Packets through a published port, both ways"
        |all| ports(all, |port| port.stats.packets);
    "datapath_port_bytes" Counter ["address" "port" "protocol" "source" "owner"]
        "Bytes of those packets, from the IP header on"
        |all| ports(all, |port| port.stats.bytes);
    "datapath_port_refused" Counter ["address" "port" "protocol" "source" "owner"]
        "Packets dropped since their source is not in a published port's allow-list"
        |all| ports(all, |port| port.stats.refused);
    "datapath_map_entries" Gauge ["map"] "Entries in a map; a flow has two"
        |all| all.maps.iter().map(|map| (vec![map.name.to_owned()], map.used.into())).collect();
    "datapath_map_capacity" Gauge ["map"] "Entries that a map has room for"
        |all| all.maps.iter().map(|map| (vec![map.name.to_owned()], map.max.into())).collect();
    "datapath_events_suppressed" Counter [] "Drops that `datapath monitor` was not told of: too many at once"
        |all| one(all.suppressed);
}

fn one(value: u64) -> Vec<Sample> {
    vec![(Vec::new(), value)]
}

fn attachments(all: &Snapshot) -> Vec<Sample> {
    let mut count = BTreeMap::<_, u64>::new();
    for attachment in &all.attachments {
        *count.entry(&attachment.program).or_default() += 1;
    }
    let sample = |(program, count): (&String, u64)| (vec![program.clone()], count);
    count.into_iter().map(sample).collect()
}

fn reasons(
    all: &Snapshot,
    value: impl Fn(&datapath_common::reason::ReasonCount) -> u64,
) -> Vec<Sample> {
    all.reasons
        .iter()
        .map(|(reason, count)| {
            let labels = [reason.name(), reason.outcome().name()];
            (labels.map(str::to_owned).to_vec(), value(count))
        })
        .collect()
}

fn ports(all: &Snapshot, value: impl Fn(&PortView) -> u64) -> Vec<Sample> {
    all.ports
        .iter()
        .map(|port| {
            let publication = &port.publication;
            let listen = &publication.listen;
            let labels = vec![
                listen.addr.to_string(),
                listen.port.to_string(),
                listen.protocol.to_string(),
                publication.source.name().to_owned(),
                publication.owner.clone(),
            ];
            (labels, value(port))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_documented_and_none_beside() {
        const DOCUMENTED: &str = include_str!("../../../docs/metrics.md");
        let rows = |text: &str| {
            text.lines()
                .filter(|line| line.starts_with("| `datapath_"))
                .count()
        };
        for metric in METRICS {
            let labels: Vec<_> = metric
                .labels
                .iter()
                .map(|label| format!("`{label}`"))
                .collect();
            let row = format!(
                "| `{}` | {} | {} | {} |",
                metric.sample_name(),
                metric.kind.name(),
                labels.join(", "),
                metric.help
            );
            assert!(DOCUMENTED.contains(&row), "docs/metrics.md lacks: {row}");
        }
        let table = DOCUMENTED.split("## ").next().unwrap_or_default();
        assert_eq!(rows(table), METRICS.len());
    }
}
