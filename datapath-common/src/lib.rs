//! What the kernel half and the user half of datapath share: the layout of every map (the ABI) and the
//! pure logic of translation, which ordinary tests reach.
//!
//! # Rules of the ABI
//! - Every type that lives in a map is `repr(C)`, has no padding that the compiler chose, and is listed in
//!   [`abi`] with its size: a change of layout is a build error until the size there, and
//!   [`abi::VERSION`], are changed on purpose.
//! - Addresses are bytes in network order. Ports and identifiers are integers in host order, so that
//!   `bpftool map dump` prints the number a person knows; they are swapped once, where a packet is read or
//!   written.
//! - Enumerations cross the boundary as integers and come back through `from_raw`: any byte may be found in
//!   a map that another version wrote.
//! - Times are nanoseconds of `CLOCK_MONOTONIC` (`bpf_ktime_get_ns`).
//!
//! | module | holds |
//! |---|---|
//! | [`family`] | IPv4 and IPv6 as types; everything below is generic over them |
//! | [`tuple`] | a packet's addresses and ports: the key of a flow |
//! | [`conntrack`] | a flow's entry, TCP's states, timeouts |
//! | [`binding`], [`allow`] | a published port, and who may ask for it |
//! | [`unpublished`] | which ports are published nowhere |
//! | [`network`], [`uplink`] | what is translated, and to which address |
//! | [`way`] | where packets go without the stack |
//! | [`checksum`] | the Internet checksum, mended along with the fields it covers |
//! | [`nat64`] | IPv6 clients of IPv4 endpoints: one family's headers made the other's |
//! | [`ports`] | which source ports masquerade tries |
//! | [`limit`] | how many flows one endpoint may have |
//! | [`fragment`] | the note that a first fragment leaves for the rest |
//! | [`mapping`] | an endpoint's port outside, the same to everybody |
//! | [`shown`] | which source ports masquerade has shown |
//! | [`host`] | what a process of the host dialled |
//! | [`event`] | what a program tells about a packet that it dropped |
//! | [`reason`] | why a packet was translated, left alone or dropped |
//! | [`settings`] | what can be changed while the programs run |
//! | [`names`], [`proto`] | maps and programs by name; protocols by number |
//! | [`abi`] | its version, and the size of every type in a map |
#![no_std]
#![deny(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod allow;
pub mod binding;
pub mod checksum;
pub mod conntrack;
pub mod event;
pub mod family;
pub mod fragment;
pub mod host;
pub mod limit;
pub mod mapping;
pub mod names;
pub mod nat64;
pub mod network;
pub mod ports;
pub mod proto;
pub mod reason;
pub mod settings;
pub mod shown;
pub mod tuple;
pub mod unpublished;
pub mod uplink;
pub mod way;
