//! The tasks of this project, one module each, and the few things they share.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`setup`] | what building and testing need: finds it, or installs it |
//! | [`build`] | the release binary |
//! | [`package`] | a Debian package |
//! | [`check`] | formatting, lints, licences, the rules of the house |
//! | [`test`] | every test, or the long ones, with the test runner's own summary at the end |
//! | [`fuzz`] | made-up input, as long as one likes |
//! | [`bench`] | measures against what the program takes the place of |
//! | [`demo`] | the whole promise, on real traffic |
//! | [`exec`], [`step`] | run a command; show that a long one is alive |
//! | [`workspace`], [`machine`] | where things are; who we are and what is on `PATH` |
//!
//! A task that needs the built program calls [`setup`] and then [`build::release`]; both say little when
//! there is nothing to do.

#![deny(missing_docs)]

pub mod bench;
pub mod build;
pub mod check;
pub mod demo;
pub mod exec;
pub mod fuzz;
pub mod machine;
pub mod package;
pub mod setup;
pub mod step;
pub mod test;
pub mod workspace;
