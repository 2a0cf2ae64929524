//! The programs, as the kernel loaded them, on single frames: what goes in and what comes out, byte by byte.

mod allow;
mod case;
mod checksums;
mod connection;
mod disorder;
mod driver;
mod flood;
mod fragments;
mod frame;
mod guards;
mod headers;
mod hop_limit;
mod host;
mod icmp_error;
mod inward;
mod limits;
mod mangled;
mod nat64;
mod oracle;
mod outward;
mod own;
mod ports;
mod shortcut;
mod test_run;
mod timeouts;
mod verified;
