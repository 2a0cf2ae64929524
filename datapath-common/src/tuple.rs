//! A packet's addresses and ports as seen on the wire at a hook: the key of a flow.

use crate::family::{Address, Family};

/// Which way a packet goes, seen from the endpoint. Part of the key: one and the same addresses mean
/// another flow when they come from the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From an endpoint: seen as it leaves a bridge or an uplink, before its source is translated.
    FromEndpoint = 0,
    /// Towards an endpoint: seen as it arrives at an uplink, before its destination is translated.
    ToEndpoint = 1,
}

impl Direction {
    /// The direction for a map's byte, or `None` for a byte that no version wrote.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            0 => Some(Self::FromEndpoint),
            1 => Some(Self::ToEndpoint),
            _ => None,
        }
    }

    /// The other way.
    #[must_use]
    #[inline(always)]
    pub const fn opposite(self) -> Self {
        match self {
            Self::FromEndpoint => Self::ToEndpoint,
            Self::ToEndpoint => Self::FromEndpoint,
        }
    }
}

/// Source and destination, each an address and a port. For ICMP queries the asker's port is the
/// identifier and the answerer's is 0 (RFC 5508 treats the identifier as the port).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoints<F: Family> {
    /// Source address.
    pub src: F::Addr,
    /// Destination address.
    pub dst: F::Addr,
    /// Source port, host order.
    pub sport: u16,
    /// Destination port, host order.
    pub dport: u16,
}

/// The key of a flow: endpoints, protocol and direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple<F: Family> {
    /// Source address.
    pub src: F::Addr,
    /// Destination address.
    pub dst: F::Addr,
    /// Source port, host order.
    pub sport: u16,
    /// Destination port, host order.
    pub dport: u16,
    /// Protocol number (see [`crate::proto`]).
    pub protocol: u8,
    /// A [`Direction`].
    pub direction: u8,
    /// Always 0: keys are compared as bytes.
    pub zero: u16,
}

impl<F: Family> Tuple<F> {
    /// All zero.
    pub const NONE: Self = Self::new(&Endpoints::NONE, 0, Direction::FromEndpoint);

    /// The key of a packet with these endpoints.
    #[must_use]
    #[inline(always)]
    pub const fn new(endpoints: &Endpoints<F>, protocol: u8, direction: Direction) -> Self {
        Self {
            src: endpoints.src,
            dst: endpoints.dst,
            sport: endpoints.sport,
            dport: endpoints.dport,
            protocol,
            direction: direction as u8,
            zero: 0,
        }
    }

    /// The same key in the other family's form, where both addresses have one.
    #[must_use]
    #[inline(always)]
    pub fn across(&self) -> Option<Tuple<F::Other>> {
        Some(Tuple {
            src: F::across(&self.src)?,
            dst: F::across(&self.dst)?,
            sport: self.sport,
            dport: self.dport,
            protocol: self.protocol,
            direction: self.direction,
            zero: 0,
        })
    }

    /// Addresses and ports alone.
    #[must_use]
    #[inline(always)]
    pub const fn endpoints(&self) -> Endpoints<F> {
        Endpoints {
            src: self.src,
            dst: self.dst,
            sport: self.sport,
            dport: self.dport,
        }
    }
}

impl<F: Family> Endpoints<F> {
    /// All zero.
    pub const NONE: Self = Self {
        src: F::Addr::UNSPECIFIED,
        dst: F::Addr::UNSPECIFIED,
        sport: 0,
        dport: 0,
    };

    /// The same in the other family's form, where both addresses have one.
    #[must_use]
    #[inline(always)]
    pub fn across(&self) -> Option<Endpoints<F::Other>> {
        Some(Endpoints {
            src: F::across(&self.src)?,
            dst: F::across(&self.dst)?,
            sport: self.sport,
            dport: self.dport,
        })
    }

    /// What an answer to this packet carries.
    #[must_use]
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
        }
    }
}
