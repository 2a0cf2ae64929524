//! The lab: hosts, containers and the program under test, on one machine, in network namespaces of its own.

#![expect(clippy::disallowed_methods, reason = "tests wait in real time")]

pub mod bench;
pub mod budgets;
pub mod demo;
pub mod faults;
pub mod lab;
pub mod stack;
pub mod strangers;
