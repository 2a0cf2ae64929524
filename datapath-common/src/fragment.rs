//! The note that the first fragment of a datagram, which alone carries the ports, leaves for the rest.

use crate::{
    family::{Address as _, Family},
    tuple::Direction,
};

/// How long a note is kept: the time that Linux gives a datagram to become whole
/// (`net.ipv4.ipfrag_time`).
pub const LIFETIME: u64 = 30_000_000_000;

/// What the fragments of one datagram have in common (RFC 791, 3.2; RFC 8200, 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FragmentKey<F: Family> {
    /// Source address on the wire.
    pub src: F::Addr,
    /// Destination address on the wire.
    pub dst: F::Addr,
    /// The datagram's identification, host order (16 bits in IPv4).
    pub id: u32,
    /// Protocol number; 0 in IPv6.
    pub protocol: u8,
    /// A [`Direction`].
    pub direction: u8,
    /// Always 0: keys are compared as bytes.
    pub zero: u16,
}

/// What the first fragment became, for the others to follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentNote<F: Family> {
    /// The source that the first fragment took.
    pub src: F::Addr,
    /// The destination that it took.
    pub dst: F::Addr,
    /// Until when the note is good.
    pub deadline: u64,
    /// Bits of [`FragmentNote::LEFT_ALONE`].
    pub flags: u64,
}

impl<F: Family> FragmentKey<F> {
    /// The key of a datagram.
    #[must_use]
    #[inline(always)]
    pub const fn new(
        src: F::Addr,
        dst: F::Addr,
        id: u32,
        protocol: u8,
        direction: Direction,
    ) -> Self {
        Self {
            src,
            dst,
            id,
            protocol,
            direction: direction as u8,
            zero: 0,
        }
    }
}

impl<F: Family> FragmentNote<F> {
    /// The first was none of ours, and so are the others.
    pub const LEFT_ALONE: u64 = 1;

    /// All zero: ended long ago.
    pub const NONE: Self = Self {
        src: F::Addr::UNSPECIFIED,
        dst: F::Addr::UNSPECIFIED,
        deadline: 0,
        flags: 0,
    };
}
