//! Docker as a source: which networks there are, and which ports containers publish.
//!
//! Events say when to look, a full listing says what is true: at the start, after every gap, at every event, and
//! on a slow timer. While the engine is away what it said last stays in force.

mod answers;
mod engine;
mod everywhere;
mod labels;
mod translate;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use anyhow::{Context as _, Result};
use bollard::{errors::Error, models::EventMessage};
use futures::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tracing::{debug, info, warn};

use self::{
    engine::Engine,
    everywhere::Everywhere,
    translate::{guests, needs_gateway, shown},
};
use crate::model::{Listen, Network, Publication};

/// How long after an event everything is listed once more: the engine tells of a container's end a little before its
/// listing does, and of what happened just before it was connected to not at all. Then, as long as nothing happens, by
/// the last.
const RELIST: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(2),
    Duration::from_secs(30),
];
/// How often it is looked whether an engine's socket has come to be.
const APPEARS: Duration = Duration::from_secs(1);
/// How long to wait before connecting again: doubled each time, up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// The bridge network that joins a swarm's overlay networks to the host.
const GATEWAY: &str = "/networks/docker_gwbridge";

/// What the engine wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Its bridge networks.
    pub networks: Vec<Network>,
    /// The ports that its running containers publish.
    pub publications: Vec<Publication>,
    /// Those of them that the engine does not list, and so does not hold with a socket of its own.
    pub unlisted: BTreeSet<Listen>,
    /// What of it could not be understood, a line each.
    pub problems: Vec<String>,
}

/// What an engine wants that lists these networks and containers, as its API does.
#[must_use]
pub fn understand(networks: Value, containers: Value) -> Snapshot {
    let list = |listed| serde_json::from_value(listed).unwrap_or_default();
    let (networks, _) = answers::each(list(networks));
    let (containers, _) = answers::each(list(containers));
    translate::snapshot(&networks, &containers, &HashMap::new())
}

/// What is known of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What it said last; `None` until it has said something.
    pub snapshot: Option<Snapshot>,
    /// Why it does not speak now, if it does not.
    pub fault: Option<String>,
}

/// Whether a bridge has a name that the engine itself gives: whatever it is for, it leads to containers.
#[must_use]
pub fn is_own_bridge(name: &str) -> bool {
    let made = name.strip_prefix("br-").is_some_and(|id| {
        id.len() == 12
            && id
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    });
    made || name == "docker0" || name == "docker_gwbridge"
}

/// What an engine says of itself, and what it wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its version, fit to be shown.
    pub engine: String,
    /// The version of its API that is spoken.
    pub api: String,
    /// What it wants.
    pub snapshot: Snapshot,
    /// It is a member of a swarm.
    pub swarm: bool,
    /// Containers go on while it is away.
    pub live_restore: bool,
}

/// Asks the engine behind `socket`, once.
///
/// # Errors
/// When it does not answer, or says nothing that makes sense.
pub async fn ask(socket: &Path) -> Result<Seen> {
    let engine = Engine::meet(socket).await?;
    let info = engine.get::<answers::Info>("/info").await?;
    let info = info.unwrap_or_default();
    let swarm = info.swarm.and_then(|swarm| swarm.local_node_state);
    Ok(Seen {
        engine: shown(&engine.name).to_string(),
        api: engine.version.to_string(),
        snapshot: list(&engine, &mut Everywhere::default()).await?,
        swarm: swarm.is_some_and(|state| state == "active" || state == "locked"),
        live_restore: info.live_restore_enabled == Some(true),
    })
}

/// Follows the engine behind `socket` for as long as somebody looks. `sure` says that there is one: else the socket
/// is waited for in silence. Until it speaks, `last` is what was said: by another, where that is not nothing.
#[must_use]
pub fn follow(socket: PathBuf, sure: bool, last: View) -> watch::Receiver<View> {
    let sure = sure || last.snapshot.is_some();
    let (view, seen) = watch::channel(last);
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
    let engine = Engine::meet(socket)
        .await
        .with_context(|| format!("docker.socket: {}", socket.display()))?;
    let mut events = pin!(engine.events()?);
    info!(
        "docker: following the engine at {}, version {}, by version {} of its API",
        socket.display(),
        shown(&engine.name),
        engine.version
    );
    let mut quiet = 0;
    let mut everywhere = Everywhere::default();
    loop {
        let start = Instant::now();
        let snapshot = list(&engine, &mut everywhere)
            .await
            .context("docker: the listing")?;
        debug!("docker: listed in {:.1?}", start.elapsed());
        view.send_if_modified(|view| {
            let next = View {
                snapshot: Some(snapshot),
                fault: None,
            };
            let news = *view != next;
            *view = next;
            news
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
    let event = event.context("docker: the events ended")?;
    debug!("docker: {}", shown(&event.action.unwrap_or_default()));
    Ok(())
}

async fn list(engine: &Engine<'_>, everywhere: &mut Everywhere) -> Result<Snapshot> {
    let networks = engine.get::<Vec<Value>>("/networks");
    let containers = engine.get::<Vec<Value>>("/containers/json");
    let (networks, containers) = tokio::try_join!(networks, containers)?;
    let (networks, mut odd) = answers::each(networks.context("the engine lists no networks")?);
    let (mut containers, more) = answers::each(containers.context("it lists no containers")?);
    odd.extend(more);
    everywhere.complete(engine, &mut containers).await;
    let gateway = if needs_gateway(&networks, &containers) {
        engine.get(GATEWAY).await?.map(guests).unwrap_or_default()
    } else {
        HashMap::new()
    };
    let mut snapshot = translate::snapshot(&networks, &containers, &gateway);
    let problem = |error: &serde_json::Error| {
        format!(
            "docker: an entry of a listing makes no sense: {}",
            shown(&error.to_string())
        )
    };
    snapshot.problems.extend(odd.iter().map(problem));
    Ok(snapshot)
}
