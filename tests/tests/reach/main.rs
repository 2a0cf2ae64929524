//! Who reaches a published port, and who does not: the host itself, other containers, the network.

mod dialled;
mod hairpin;
mod host;
mod icc;
mod ipv6;
mod no_cgroup;
