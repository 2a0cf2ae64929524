//! Metrics for Prometheus: the pinned maps and the service's own state, read when somebody asks. Nothing is
//! counted a second time for it.

mod exposition;
pub mod server;
mod table;

use anyhow::Result;
use datapath_common::reason::{Reason, ReasonCount};

pub use self::table::{Kind, METRICS, Metric};
use crate::{
    api::types::Status,
    kernel::pinned::Pinned,
    view::{Attachment, MapFill, PortView},
};

/// All that is told, as of one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    reasons: Vec<(Reason, ReasonCount)>,
    ports: Vec<PortView>,
    maps: Vec<MapFill>,
    attachments: Vec<Attachment>,
    suppressed: u64,
    status: Status,
}

impl Snapshot {
    /// Reads the maps; `status` is what the service says of itself.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn read(pinned: &Pinned, status: Status) -> Result<Self> {
        Ok(Self {
            reasons: pinned.reasons()?,
            ports: pinned.ports()?,
            maps: pinned.fill()?,
            attachments: pinned.attachments()?,
            suppressed: pinned.suppressed()?,
            status,
        })
    }
}
