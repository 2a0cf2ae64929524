//! A real Docker engine, real containers, and nothing to configure.

#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

mod absent;
mod allow;
mod answers;
mod away;
mod beside;
mod churn;
mod engine;
mod force;
mod moving;
mod promises;
mod published;
mod timing;
