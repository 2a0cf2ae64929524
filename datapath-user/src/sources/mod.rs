//! Where the wanted state comes from.

pub mod docker;
pub mod firewall;
pub mod netlink;
