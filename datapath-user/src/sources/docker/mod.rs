//! Docker as a source: which networks there are, and which ports containers publish.
//!
//! Events say when to look, a full listing says what is true: at the start, after every gap, at every event, and
//! on a slow timer. While the engine is away what it said last stays in force.

mod translate;

use std::{
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use anyhow::{Context as _, Result};
use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::EventMessage,
    query_parameters::{EventsOptionsBuilder, ListContainersOptions, ListNetworksOptions},
};
use futures::{FutureExt as _, StreamExt as _};
use tokio::{sync::watch, time};
use tracing::{info, warn};

use crate::model::{Network, Publication};

/// How long a request to the engine may take, in seconds.
const TIMEOUT: u64 = 30;
/// How long after an event everything is listed once more: the engine tells of a container's end a little before its
/// listing does. Then, as long as nothing happens, by the last.
const RELIST: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(30),
];
/// How often it is looked whether an engine's socket has come to be.
const APPEARS: Duration = Duration::from_secs(1);
/// How long to wait before connecting again: doubled each time, up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The events after which networks or ports may be others. Those of health checks are many, and none of these.
const EVENTS: &[&str] = &[
    "start",
    "die",
    "destroy",
    "stop",
    "connect",
    "disconnect",
    "create",
    "remove",
];

/// What the engine wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Its bridge networks.
    pub networks: Vec<Network>,
    /// The ports that its running containers publish.
    pub publications: Vec<Publication>,
    /// What of it could not be understood, a line each.
    pub problems: Vec<String>,
}

/// What is known of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What it said last; `None` until it has said something.
    pub snapshot: Option<Snapshot>,
    /// Why it does not speak now, if it does not.
    pub fault: Option<String>,
}

/// Follows the engine behind `socket` for as long as somebody looks. `sure` says that there is one: else the socket
/// is waited for in silence.
#[must_use]
pub fn follow(socket: PathBuf, sure: bool) -> watch::Receiver<View> {
    let (view, seen) = watch::channel(View::default());
    tokio::spawn(async move {
        let mut wait = BACKOFF.0;
        while !sure && !socket.exists() && !view.is_closed() {
            time::sleep(APPEARS).await;
        }
        while !view.is_closed() {
            let Err(error) = listen(&socket, &view, &mut wait).await else {
                return;
            };
            // The engine's own words may be part of it.
            let fault = format!("{error:#}").escape_debug().to_string();
            let news = view
                .send_if_modified(|view| view.fault.replace(fault.clone()) != Some(fault.clone()));
            if news {
                warn!("docker: {fault}; what it said last stays in force");
            }
            time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    });
    seen
}

/// Listens until the connection breaks, which is an error, or nobody looks any more.
async fn listen(socket: &Path, view: &watch::Sender<View>, wait: &mut Duration) -> Result<()> {
    let path = socket.to_str().context("docker.socket: not UTF-8")?;
    let docker = Docker::connect_with_unix(path, TIMEOUT, API_DEFAULT_VERSION)
        .with_context(|| format!("docker.socket: {path}"))?
        .negotiate_version()
        .await
        .with_context(|| format!("docker.socket: {path}: no engine answers"))?;
    let names = EVENTS.iter().map(ToString::to_string).collect::<Vec<_>>();
    let kinds = vec!["container".to_owned(), "network".to_owned()];
    let filters = [("event".to_owned(), names), ("type".to_owned(), kinds)].into();
    let options = EventsOptionsBuilder::default().filters(&filters).build();
    let mut events = pin!(docker.events(Some(options)));
    info!("docker: following the engine at {path}");
    let mut quiet = 0;
    loop {
        // Everything that happens after this listing began shows as an event after it.
        let snapshot = list(&docker).await.context("docker: the listing")?;
        view.send_if_modified(|view| {
            let next = View {
                snapshot: Some(snapshot),
                fault: None,
            };
            std::mem::replace(view, next.clone()) != next
        });
        tokio::select! {
            event = events.next() => {
                happened(event)?;
                // One listing answers for all that came meanwhile.
                while let Some(event) = events.next().now_or_never() {
                    happened(event)?;
                }
                quiet = 0;
            }
            () = time::sleep(RELIST[quiet]) => quiet = (quiet + 1).min(RELIST.len() - 1),
            () = view.closed() => return Ok(()),
        }
        // Not before: an engine that lists and then hangs up is not there yet.
        *wait = BACKOFF.0;
    }
}

/// What the next item of the events says: that they go on, or not.
fn happened(event: Option<Result<EventMessage, Error>>) -> Result<()> {
    let event = event.context("docker: the engine ended the connection")?;
    event.map(drop).context("docker: the events ended")
}

async fn list(docker: &Docker) -> Result<Snapshot> {
    let networks = docker.list_networks(None::<ListNetworksOptions>);
    let containers = docker.list_containers(None::<ListContainersOptions>);
    let (networks, containers) = tokio::try_join!(networks, containers)?;
    Ok(translate::snapshot(&networks, &containers))
}
