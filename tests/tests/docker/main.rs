//! A real Docker engine, real containers, and nothing to configure.

#![expect(clippy::disallowed_methods, reason = "tests wait in real time")]

mod engine;
