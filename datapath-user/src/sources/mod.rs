//! Where the wanted state comes from.

pub mod docker;
pub mod firewall;
pub mod listeners;
pub mod netlink;
