//! Published ports that somebody else wants, too.

use super::super::{Found, Subject, fine, note, todo, unknown};
use crate::{
    kernel::pinned::{Error, Pinned},
    sources::listeners::Listeners,
};

pub(super) fn look(subject: &Subject) -> Found {
    let ports = Pinned::open(&subject.config.pin_dir).and_then(|pinned| pinned.ports());
    let ports = match ports {
        Ok(ports) if ports.is_empty() => return vec![note("no port is published")],
        Ok(ports) => ports,
        Err(error @ Error::Permission(_)) => return vec![unknown(error.to_string())],
        Err(error) => return vec![note(error.to_string())],
    };
    let listens = ports.iter().map(|port| port.publication.listen);
    let holders = Listeners::default().holders(listens);
    if holders.is_empty() {
        return vec![fine(format!("{} ports are published", ports.len()))];
    }
    let held = holders.iter().map(|(listen, holder)| {
        todo(
            format!("{listen}: {holder}, gets nothing of what arrives there"),
            "stop it or let it listen elsewhere, or withdraw the port",
        )
    });
    held.collect()
}
