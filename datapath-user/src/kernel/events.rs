//! Dropped packets, as the programs tell of them while somebody listens.

use std::{
    mem::size_of,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use datapath_common::event::{Event, Monitor, Written};
use tokio::io::unix::AsyncFd;

use super::{clock, tables::Tables};

/// How long the programs believe that somebody listens. [`Events::go_on`] is to be called more often.
pub const ATTENTION: Duration = Duration::from_secs(5);

/// The events of one pin directory. There is one buffer, so there may be one listener.
pub struct Events {
    events: RingBuf<MapData>,
    /// The same, to be waited for.
    readiness: AsyncFd<OwnedFd>,
    monitor: Array<MapData, Monitor>,
    written: PerCpuArray<MapData, Written>,
    /// How many were suppressed before this one listened.
    suppressed: u64,
}

impl Events {
    /// Begins to listen, inside a runtime. What an earlier listener left is thrown away.
    ///
    /// # Errors
    /// When a map is not there.
    pub fn listen(tables: &Tables) -> Result<Self> {
        let (events, monitor, written) = tables.events()?;
        let readiness = events.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by what is registered, and nothing else closes or replaces it.
        let readiness = unsafe { AsyncFd::register(readiness) }?;
        let mut listener = Self {
            events,
            readiness,
            monitor,
            written,
            suppressed: 0,
        };
        while listener.events.next().is_some() {}
        listener.suppressed = listener.count_suppressed()?;
        listener.go_on()?;
        Ok(listener)
    }

    /// Tells the programs that somebody listens still.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn go_on(&mut self) -> Result<()> {
        let until = clock::now()? + u64::try_from(ATTENTION.as_nanos())?;
        self.set(until)
    }

    /// Waits until there are events. Those of before this call are to be taken first.
    ///
    /// # Errors
    /// When the descriptor cannot be waited for.
    pub async fn ready(&self) -> Result<()> {
        self.readiness.readable().await?.clear_ready();
        Ok(())
    }

    /// The next event that is there already.
    pub fn take(&mut self) -> Option<Event> {
        let item = self.events.next()?;
        let bytes = item.get(..size_of::<Event>())?;
        // SAFETY: as many bytes as an event has, and every bit pattern is one; they need not be aligned.
        Some(unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() })
    }

    /// How many drops were not told of since this began to listen.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn suppressed(&self) -> Result<u64> {
        Ok(self.count_suppressed()?.saturating_sub(self.suppressed))
    }

    fn count_suppressed(&self) -> Result<u64> {
        let written = self.written.get(&0, 0)?;
        Ok(written.iter().map(|cpu| cpu.suppressed).sum())
    }

    fn set(&mut self, until: u64) -> Result<()> {
        self.monitor
            .set(0, Monitor { until }, 0)
            .context("map MONITOR")
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // If it fails, the programs find out by themselves soon.
        drop(self.set(0));
    }
}
