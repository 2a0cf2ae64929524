//! The API: HTTP and JSON on a Unix socket. [`types`] is what goes over it, for both ends.

mod bounds;
pub mod client;
pub(crate) mod door;
pub mod server;
pub mod types;
