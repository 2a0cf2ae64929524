//! The service's end of the API.

use std::io;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::UnixListener;

use super::types::{Changed, PublishSpec, Refusal, RefusalKind, Refused, Status, UnpublishSpec};
use crate::{
    config::{
        ports::AddrPorts,
        publish::{PairFault, expand, expand_listen},
    },
    model::Source,
    service::Handle,
};

/// Bytes of a request's body: room for every port of the host, one entry each.
const BODY: usize = 16 << 20;

/// Answers until the listener fails. Drop the future to stop.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: UnixListener, handle: Handle) -> io::Result<()> {
    let app = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/ports", axum::routing::post(publish).delete(unpublish))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(handle);
    axum::serve(listener, app).await
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.kind {
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            RefusalKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(Refused { error: self })).into_response()
    }
}

async fn status(State(handle): State<Handle>) -> Result<Json<Status>, Refusal> {
    handle.status().await.map(Json)
}

async fn publish(
    State(handle): State<Handle>,
    Json(specs): Json<Vec<PublishSpec>>,
) -> Result<Json<Changed>, Refusal> {
    let mut publications = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let listen = parse(index, "listen", &spec.listen)?;
        let to = parse(index, "to", &spec.to)?;
        let ports = expand(&listen, &to, spec.protocol, Source::Api, "api").map_err(|fault| {
            let (field, value) = match fault {
                PairFault::Listen(_) => ("listen", &spec.listen),
                PairFault::To(_) => ("to", &spec.to),
            };
            invalid(index, field, value, fault.fault())
        })?;
        publications.extend(ports);
    }
    let ports = handle.publish(publications).await?;
    tracing::info!(ports, "published by the API");
    Ok(Json(Changed { ports }))
}

async fn unpublish(
    State(handle): State<Handle>,
    Json(specs): Json<Vec<UnpublishSpec>>,
) -> Result<Json<Changed>, Refusal> {
    let mut listens = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let listen = parse(index, "listen", &spec.listen)?;
        listens.extend(expand_listen(&listen, spec.protocol));
    }
    let ports = handle.unpublish(listens).await?;
    tracing::info!(ports, "withdrawn by the API");
    Ok(Json(Changed { ports }))
}

fn parse(index: usize, field: &str, value: &str) -> Result<AddrPorts, Refusal> {
    value
        .parse()
        .map_err(|fault| invalid(index, field, value, &fault))
}

fn invalid(index: usize, field: &str, value: &str, fault: &impl ToString) -> Refusal {
    Refusal::new(RefusalKind::Invalid, fault.to_string()).about(format!("[{index}].{field}"), value)
}
