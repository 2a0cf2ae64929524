//! One check a file: what it looks at, what it finds, and the remedy.

mod bridge_netfilter;
mod configuration;
mod daemon_json;
mod engine;
mod firewalls;
mod forwarding;
mod kernel;
mod mounts;
mod pins;
mod ports;
mod privileges;
mod programs;
mod proxies;
mod rules;
mod service;
mod source_check;
mod subnets;
mod way;

use super::{Found, Subject};

/// A check's name, and what it does.
type Check = (&'static str, fn(&Subject) -> Found);

/// All checks, in the order in which to see to what they find: the host, the service, Docker, what Docker left.
pub(super) const ALL: &[Check] = &[
    ("privileges", privileges::look),
    ("kernel", kernel::look),
    ("mounts", mounts::look),
    ("configuration", configuration::look),
    ("forwarding", forwarding::look),
    ("source-check", source_check::look),
    ("subnets", subnets::look),
    ("programs", programs::look),
    ("daemon-json", daemon_json::look),
    ("service", service::look),
    ("pins", pins::look),
    ("engine", engine::look),
    ("proxies", proxies::look),
    ("rules", rules::look),
    ("bridge-netfilter", bridge_netfilter::look),
    ("firewalls", firewalls::look),
    ("ports", ports::look),
    ("way", way::look),
];
