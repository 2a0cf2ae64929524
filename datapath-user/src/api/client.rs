//! The command line's end of the API.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Error, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time};

use super::types::{Refusal, Refused, Status};

/// How long the service may take to answer: it refuses by itself what takes it longer than ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to say how it is. One that hangs is no reason to hang.
const GLANCE: Duration = Duration::from_secs(5);

/// What is known of a service.
#[derive(Clone, Debug)]
pub enum Service {
    /// It answers.
    Answers(Box<Status>),
    /// None runs.
    Absent,
    /// It may not be asked, or does not answer: why, in a line.
    Unknown(String),
}

impl Service {
    /// What it says of itself.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Answers(status) => Some(status),
            Self::Absent | Self::Unknown(_) => None,
        }
    }
}

/// A service to ask.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The service behind a socket.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Looks whether a service runs, and how it is.
    pub async fn look(&self) -> Service {
        match self.ask(Method::GET, "/v1/status", &(), GLANCE).await {
            Ok(status) => Service::Answers(Box::new(status)),
            Err(error) => match error.downcast_ref().map(io::Error::kind) {
                Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Service::Absent,
                _ => Service::Unknown(format!("{error:#}")),
            },
        }
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When no service answers, or it refuses: then with a [`Refusal`].
    pub async fn send<B: Serialize + Sync, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<A> {
        self.ask(method, path, body, PATIENCE).await
    }

    async fn ask<B: Serialize + Sync, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
        patience: Duration,
    ) -> Result<A> {
        let answer = time::timeout(patience, self.exchange(method, path, body)).await;
        answer.unwrap_or_else(|_| {
            bail!(
                "api_socket: {}: no answer within {} s: the service hangs, or has much to do; see its log",
                self.socket.display(),
                patience.as_secs()
            )
        })
    }

    async fn exchange<B: Serialize + Sync, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<A> {
        let connected = UnixStream::connect(&self.socket).await;
        let stream = connected.map_err(|error| {
            let remedy = if error.kind() == io::ErrorKind::PermissionDenied {
                "may not be opened; run as root, or in the socket's group"
            } else {
                "no service answers; start it with `datapath run`"
            };
            let socket = self.socket.display();
            Error::new(error).context(format!("api_socket: {socket}: {remedy}"))
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "datapath")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(serde_json::to_vec(body)?)))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        drop(sender);
        connection.abort();
        if status.is_success() {
            return serde_json::from_slice(&body).context("the service's answer makes no sense");
        }
        match serde_json::from_slice::<Refused>(&body) {
            // Which entry of the request it was is of no use to who asked for one.
            Ok(Refused { error }) => Err(Refusal {
                field: String::new(),
                ..error
            }
            .into()),
            Err(_) => bail!(
                "the service answered {status}: {}",
                String::from_utf8_lossy(&body)
            ),
        }
    }
}
