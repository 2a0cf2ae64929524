//! The kernel side: loading and pinning the programs, attaching them, and the maps as typed tables.

pub mod adopt;
pub mod allow;
pub mod attach;
pub mod batch;
pub mod card;
pub mod census;
pub mod cgroup;
pub mod clock;
pub mod collect;
pub mod detach;
pub mod events;
pub mod flows;
pub mod grace;
pub mod life;
pub mod link;
pub mod netlink;
pub mod netns;
pub mod object;
pub mod pinned;
pub mod pins;
pub mod raw;
pub mod rehearsal;
pub mod sockets;
pub mod tables;
pub mod version;
pub mod xdp;
