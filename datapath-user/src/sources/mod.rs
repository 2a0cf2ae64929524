//! Where the wanted state comes from.

pub mod netlink;
