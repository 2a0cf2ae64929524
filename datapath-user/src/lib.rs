//! The service and the command line of datapath: one library, so that both read the same maps in the same
//! way.

pub mod allow;
pub mod api;
pub mod cli;
pub mod config;
mod descriptors;
pub mod docker_config;
pub mod doctor;
pub mod explain;
pub mod kernel;
mod lock;
pub mod metrics;
pub mod model;
pub mod processes;
pub mod reconcile;
pub mod remedy;
pub mod service;
pub mod sources;
pub mod view;
