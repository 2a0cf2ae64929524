//! Published ports that somebody else wants, too.

use super::super::{Found, Subject, fine, note};
use crate::kernel::pinned::Pinned;

pub(super) fn look(subject: &Subject) -> Found {
    let ports = Pinned::open(&subject.config.pin_dir).and_then(|pinned| pinned.ports());
    match ports {
        Ok(ports) if ports.is_empty() => vec![note("no port is published")],
        Ok(ports) => vec![fine(format!("{} ports are published", ports.len()))],
        Err(error) => vec![note(error.to_string())],
    }
}
