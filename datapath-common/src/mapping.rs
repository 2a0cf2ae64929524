//! Endpoint-independent mappings (RFC 4787, REQ-1): one inside address and port shows one outside address
//! and port to everybody.
//!
//! One map holds both ways of a mapping, as two entries: from the inside address and port to the outside
//! ones, and back. The outside entry is the claim: while it lives no other inside endpoint gets that port.

use crate::{
    family::{Address as _, Family},
    tuple::Direction,
};

/// The key of one half of a mapping.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MappingKey<F: Family> {
    /// An endpoint's address (from it), or the host's (to it).
    pub addr: F::Addr,
    /// The port or ICMP identifier there, host order.
    pub port: u16,
    /// Protocol number.
    pub protocol: u8,
    /// A [`Direction`]: from the endpoint, or to it.
    pub direction: u8,
}

/// One half of a mapping.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<F: Family> {
    /// The other side's address.
    pub addr: F::Addr,
    /// The other side's port, host order.
    pub port: u16,
    /// Reserved, 0.
    pub zero: u16,
    /// Until when it may be used. Flows push it forward as they are used.
    pub deadline: u64,
    /// Index of the generation of the host's address.
    pub slot: u32,
    /// That generation when the mapping was made.
    pub generation: u32,
}

impl<F: Family> MappingKey<F> {
    /// The key of the half that starts at this address and port.
    #[must_use]
    #[inline(always)]
    pub const fn new(addr: F::Addr, port: u16, protocol: u8, direction: Direction) -> Self {
        Self {
            addr,
            port,
            protocol,
            direction: direction as u8,
        }
    }
}

impl<F: Family> Mapping<F> {
    /// All zero: ended long ago.
    pub const NONE: Self = Self {
        addr: F::Addr::UNSPECIFIED,
        port: 0,
        zero: 0,
        deadline: 0,
        slot: 0,
        generation: 0,
    };
}
