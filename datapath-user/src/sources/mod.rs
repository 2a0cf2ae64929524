//! Where the wanted state comes from.

pub mod firewall;
pub mod netlink;
