//! A real Docker engine, real containers, and nothing to configure.

mod engine;
