//! The operator's half, on a real service: what it lists, flushes, collects, refuses, and survives.

#![expect(clippy::disallowed_methods, reason = "tests wait in real time")]

mod alarm;
mod allow;
mod api;
mod cli;
mod collect;
mod explain;
mod flows;
mod holders;
mod lifecycle;
mod metrics;
mod monitor;
mod systemd;

use datapath_tests::lab::talk;
