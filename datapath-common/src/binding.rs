//! A published port: what arrives at one address and port of the host, and where it leads.

use crate::family::Family;

/// How many published ports (each port of a range, TCP and UDP apart) the maps hold, both families together.
pub const MAX_BINDINGS: u32 = 32_768;

/// Bytes of a binding's owner, as text.
pub const OWNER_LEN: usize = 16;

/// A published address and port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindingKey<F: Family> {
    /// The host's address; the unspecified one stands for every address of the host.
    pub addr: F::Addr,
    /// The host's port, host order.
    pub port: u16,
    /// Protocol number.
    pub protocol: u8,
    /// Always 0: keys are compared as bytes.
    pub zero: u8,
}

impl<F: Family> BindingKey<F> {
    /// The key of one published port.
    #[must_use]
    #[inline(always)]
    pub const fn new(addr: F::Addr, port: u16, protocol: u8) -> Self {
        Self {
            addr,
            port,
            protocol,
            zero: 0,
        }
    }
}

/// Where a published port leads, and who asked for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding<F: Family> {
    /// The endpoint's address.
    pub to: F::Addr,
    /// The endpoint's port, host order.
    pub port: u16,
    /// A [`Source`].
    pub source: u8,
    /// Reserved, 0.
    pub flags: u8,
    /// Index of this binding's generation and of its counters. Flows that it opened carry slot and
    /// generation: raising the generation ends them all.
    pub slot: u32,
    /// Number of its allow-list, or [`crate::allow::EVERYBODY`].
    pub allow: u32,
    /// Who asked, as text filled up with zeros: a container's short id, or the name of a source.
    pub owner: [u8; OWNER_LEN],
}

/// Who wants a port published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The configuration file.
    File = 1,
    /// `datapath publish`, or a client of the API: outlives the service.
    Api = 2,
    /// A container of Docker's.
    Docker = 3,
}

impl Source {
    /// The source for a map's byte, or `None` for a byte that no version wrote.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::File),
            2 => Some(Self::Api),
            3 => Some(Self::Docker),
            _ => None,
        }
    }

    /// The name as people see it: in JSON and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
            Self::Docker => "docker",
        }
    }
}

/// What went through a published port, per CPU, by slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindingStats {
    /// Packets of its flows, both ways.
    pub packets: u64,
    /// Bytes of those packets, from the IP header on.
    pub bytes: u64,
    /// Flows opened.
    pub flows: u64,
    /// Packets refused, whose source is not in the port's allow-list.
    pub refused: u64,
}
