//! What a program tells whoever monitors about a packet that it dropped: why, where, and how the packet began.

/// Bytes of a packet that an event carries: Ethernet, IPv6 and TCP headers fit.
pub const HEAD: usize = 96;

/// Bytes of the ring buffer; a power of two and whole pages, as the kernel asks.
pub const BUFFER: usize = 1 << 18;

/// How many events one CPU writes in a second. The others are counted, not written: a flood of drops costs
/// those who look, and nobody else.
pub const RATE: u64 = 1_000;

/// A dropped packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When: nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// A [`crate::reason::Reason`].
    pub reason: u32,
    /// The interface that it arrived at, or was about to leave by.
    pub ifindex: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// How many bytes of `head` count.
    pub captured: u32,
    /// The frame's first bytes.
    pub head: [u8; HEAD],
}

/// Whether anybody listens, and until when. Whoever does pushes it forward: one that dies is forgotten.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Monitor {
    /// Nanoseconds of `CLOCK_MONOTONIC`; 0 for nobody.
    pub until: u64,
}

/// What one CPU wrote in its present second.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Which second.
    pub second: u64,
    /// Events in it.
    pub events: u64,
    /// Events that were not written, since ever: too many in their second, or no room in the buffer.
    pub suppressed: u64,
}
