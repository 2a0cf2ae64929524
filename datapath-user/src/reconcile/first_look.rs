//! Which ports are published nowhere, for the first look that programs take at a packet from outside: see
//! [`Unpublished`].

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData};
use datapath_common::unpublished::Unpublished;

use crate::kernel::tables::Tables;

/// The map, and what it holds.
pub(super) struct FirstLook {
    map: Array<MapData, Unpublished>,
    held: Unpublished,
}

impl FirstLook {
    /// Opens it, and forgets what it says: whoever wrote the bindings may have been of a version that has no such map.
    pub(super) fn open(tables: &Tables) -> Result<Self> {
        let mut look = Self {
            map: tables.unpublished()?,
            held: Unpublished::UNKNOWN,
        };
        look.map.set(0, Unpublished::UNKNOWN, 0).context(WHAT)?;
        Ok(look)
    }

    /// Before bindings of these ports are written: programs are to look closely.
    pub(super) fn publish(&mut self, ports: impl IntoIterator<Item = u16>) -> Result<()> {
        self.write(self.held.in_both(&Unpublished::all_but(ports)))
    }

    /// Looks at what the map holds.
    pub(super) fn look(&mut self) -> Result<()> {
        self.held = self.map.get(&0, 0).context(WHAT)?;
        Ok(())
    }

    /// When these ports have bindings, and no others.
    pub(super) fn settle(&mut self, ports: impl IntoIterator<Item = u16>) -> Result<()> {
        self.write(Unpublished::all_but(ports))
    }

    fn write(&mut self, ports: Unpublished) -> Result<()> {
        if self.held != ports {
            self.map.set(0, ports, 0).context(WHAT)?;
            self.held = ports;
        }
        Ok(())
    }
}

const WHAT: &str = "which ports are published nowhere";
