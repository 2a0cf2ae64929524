//! Connections that nobody would ever accept.
//!
//! Docker holds each port that it gives out with a socket that listens and never accepts. Whoever connects after a
//! container has started, and before its port is published here, is connected to that socket, and would wait for an
//! answer for ever. Such a connection is reset, so that whoever opened it knows, and tries again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use datapath_common::binding::Source;
use tokio::time;
use tracing::{debug, warn};

use super::led::Ports;
use crate::{
    kernel::sockets::{Connected, Sockets},
    model::{Listen, Protocol},
};

/// How long a connection is given to be accepted: another's socket may listen there, such as docker-proxy's.
const PATIENCE: Duration = Duration::from_millis(250);

/// Ends those to the engine's ports that are published `now` and were not `before`.
pub fn end(before: &Ports, now: &Ports) {
    let fresh: BTreeSet<Listen> = now
        .values()
        .filter(|port| port.source == Source::Docker && port.listen.protocol == Protocol::Tcp)
        .map(|port| port.listen)
        .filter(|listen| !before.contains_key(listen))
        .collect();
    if fresh.is_empty() {
        return;
    }
    // From here on nobody else comes there.
    let stranded = match stranded(&fresh) {
        Ok(stranded) if stranded.is_empty() => return,
        Ok(stranded) => stranded,
        Err(error) => return debug!("connections that nobody accepts: {error}"),
    };
    tokio::spawn(async move {
        time::sleep(PATIENCE).await;
        let ended = self::stranded(&fresh).and_then(|still| {
            let sockets = Sockets::open()?;
            let mut both = still
                .values()
                .filter(|one| stranded.contains_key(&one.cookie));
            both.try_for_each(|one| sockets.end(one))
        });
        match ended {
            Ok(()) => debug!("connections that nobody accepted are reset"),
            Err(error) => warn!("connections to published ports that nobody accepts: {error}"),
        }
    });
}

/// The connections to these ports that nobody has accepted, by their cookies.
fn stranded(ports: &BTreeSet<Listen>) -> std::io::Result<BTreeMap<u64, Connected>> {
    let numbers = ports.iter().map(|listen| listen.port).collect();
    let found = Sockets::open()?.unaccepted(&numbers)?;
    let on = |socket: &Connected| {
        let (addr, port) = (socket.from.ip().to_canonical(), socket.from.port());
        ports.iter().any(|listen| {
            listen.port == port
                && listen.addr.is_ipv4() == addr.is_ipv4()
                && (listen.addr.is_unspecified() || listen.addr == addr)
        })
    };
    let found = found.into_iter().filter(on);
    Ok(found.map(|socket| (socket.cookie, socket)).collect())
}
