//! Translation: which addresses a new flow takes, and how they are written into packets.

pub mod allow;
pub mod fragment;
pub mod hairpin;
pub mod icmp_checksum;
pub mod icmp_error;
pub mod link_local;
pub mod mapping;
pub mod masquerade;
pub mod nat64;
pub mod own;
pub mod publish;
pub mod rewrite;
mod wait;
