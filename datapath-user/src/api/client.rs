//! The command line's end of the API.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::types::{Refusal, Refused};

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
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            format!(
                "api_socket: {}: no service answers; start it with `datapath run`",
                self.socket.display()
            )
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
