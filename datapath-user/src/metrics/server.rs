//! Answers Prometheus over HTTP, where the configuration says so.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::Mutex, task, time::Instant};
use tracing::error;

use super::{Snapshot, exposition};
use crate::{api::door, kernel::pinned::Pinned, service::Handle};

/// How long an answer is given again: however many ask, the maps are read once in this time.
const FRESH: Duration = Duration::from_secs(1);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Opens the port.
///
/// # Errors
/// When it cannot be had.
pub fn listen(address: SocketAddr) -> Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address).with_context(|| {
        format!("metrics.listen: {address}: cannot be had; free it, or name another port")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers until the listener fails. Drop the future to stop.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, handle: Handle) -> io::Result<()> {
    let scraper = Arc::new(Scraper {
        handle,
        last: Mutex::new(None),
    });
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/", get(|| async { "datapath: /metrics\n" }))
        .with_state(scraper);
    door::serve(listener, app).await
}

struct Scraper {
    handle: Handle,
    last: Mutex<Option<(Instant, String)>>,
}

impl Scraper {
    /// What was read just now, or is read now.
    async fn text(&self) -> Result<String> {
        let mut last = self.last.lock().await;
        if let Some((when, text)) = &*last
            && when.elapsed() < FRESH
        {
            return Ok(text.clone());
        }
        let status = self.handle.status().await?;
        let pin_dir = self.handle.pin_dir().to_owned();
        let text = task::spawn_blocking(move || {
            let snapshot = Snapshot::read(&Pinned::open(&pin_dir)?, status)?;
            exposition::open_metrics(snapshot)
        })
        .await??;
        *last = Some((Instant::now(), text.clone()));
        Ok(text)
    }
}

async fn metrics(State(scraper): State<Arc<Scraper>>, headers: HeaderMap) -> Response {
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let open = accepts.is_some_and(|accepts| accepts.contains("application/openmetrics-text"));
    match door::answer(scraper.text()).await {
        Ok(text) if open => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Ok(text) => ([(header::CONTENT_TYPE, PLAIN)], exposition::plain(&text)).into_response(),
        Err(error) => {
            error!("metrics: {error:#}");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")).into_response()
        }
    }
}
