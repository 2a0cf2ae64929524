//! A connection to the engine: its listings, and its events.
//!
//! The listings are asked for without bollard, whose types refuse a whole list for one value that they do not know;
//! its events are, since one that cannot be read only leads to another listing.

use std::{io, path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use bollard::{
    API_DEFAULT_VERSION, ClientVersion, Docker, errors::Error, models::EventMessage,
    query_parameters::EventsOptionsBuilder,
};
use bytes::Bytes;
use futures::Stream;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, time::timeout};

use super::answers::{Refused, Version};

/// How long a request to the engine may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that an answer may have.
const LARGEST: usize = 256 << 20;
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

/// The engine behind a socket, and the version of its API that is spoken with it.
pub(super) struct Engine<'a> {
    socket: &'a Path,
    /// The version of the API that is spoken.
    pub(super) version: ClientVersion,
    /// The engine's own version, in its own words.
    pub(super) name: String,
}

impl<'a> Engine<'a> {
    /// Agrees with it on a version: the newest that both know, or else the oldest that it still speaks. Fields that we
    /// read have been there for long, and may be missing.
    pub(super) async fn meet(socket: &'a Path) -> Result<Self> {
        let said: Version = get(socket, "/version").await?.unwrap_or_default();
        let newest = said.newest.as_deref().and_then(version);
        let oldest = said.oldest.as_deref().and_then(version);
        let mut agreed = *API_DEFAULT_VERSION;
        if let Some(newest) = newest.filter(|newest| *newest < agreed) {
            agreed = newest;
        }
        if let Some(oldest) = oldest.filter(|oldest| *oldest > agreed) {
            agreed = oldest;
        }
        Ok(Self {
            socket,
            version: agreed,
            name: said.engine.unwrap_or_default(),
        })
    }

    /// What `path` has; `None` where it has nothing.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        get(self.socket, &format!("/v{}{path}", self.version)).await
    }

    /// What happens from now on. The connection is made when it is waited for first.
    pub(super) fn events(&self) -> Result<impl Stream<Item = Result<EventMessage, Error>> + use<>> {
        let path = self.socket.to_str().context("not UTF-8")?;
        let docker = Docker::connect_with_unix(path, TIMEOUT.as_secs(), &self.version)?;
        let names = EVENTS.iter().map(ToString::to_string).collect::<Vec<_>>();
        let kinds = vec!["container".to_owned(), "network".to_owned()];
        let filters = [("event".to_owned(), names), ("type".to_owned(), kinds)].into();
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        Ok(docker.events(Some(options)))
    }
}

fn version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.trim().split_once('.')?;
    Some(ClientVersion {
        major_version: major.parse().ok()?,
        minor_version: minor.parse().ok()?,
    })
}

async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<Option<T>> {
    let answer = timeout(TIMEOUT, ask(socket, path));
    let (status, body) = answer
        .await
        .map_err(|_| anyhow!("no answer within {} seconds", TIMEOUT.as_secs()))
        .flatten()?;
    if status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if !status.is_success() {
        let refused = serde_json::from_slice::<Refused>(&body);
        let message = refused.map_or_else(|_| "no reason given".to_owned(), |said| said.message);
        bail!("the engine refuses {path} ({status}): {message}");
    }
    let answer = serde_json::from_slice(&body);
    Ok(Some(answer.with_context(|| {
        format!("the engine's answer to {path} makes no sense")
    })?))
}

async fn ask(socket: &Path, path: &str) -> Result<(StatusCode, Bytes)> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| anyhow!("{}", absence(&error)))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header("host", "docker");
    let exchange = async {
        let answer = sender
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| anyhow!("the answer to {path} breaks off: {error}"))?;
        Ok((status, body.to_bytes()))
    };
    let result = exchange.await;
    connection.abort();
    result
}

/// Why nobody answers, and what to do.
fn absence(error: &io::Error) -> String {
    let because = |kind| error.kind() == kind;
    if because(io::ErrorKind::NotFound) {
        "no such socket; start the engine, or name its socket".to_owned()
    } else if because(io::ErrorKind::ConnectionRefused) {
        "the socket is there, but no engine listens; start it".to_owned()
    } else if because(io::ErrorKind::PermissionDenied) {
        "may not be opened; run the service as root, or in the socket's group".to_owned()
    } else {
        format!("no engine answers: {error}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_every_kind() {
        let read = |text| version(text).map(|version| version.to_string());
        assert_eq!(read("1.41").as_deref(), Some("1.41"));
        assert_eq!(read("2.0\n").as_deref(), Some("2.0"));
        for odd in ["", "1", "1.", ".41", "1.41.2", "one.two", "-1.2"] {
            assert_eq!(read(odd), None, "{odd}");
        }
        assert!(version("1.9") < version("1.41"));
    }
}
