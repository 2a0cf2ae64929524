//! The service's end of the API.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Extension, Request, State, rejection::JsonRejection},
    http::{Method, StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::body::Body as _;
use tokio::{net::UnixListener, sync::Semaphore, time};

use super::{
    bounds::{Entries, Turn},
    door::{self, Peer},
    types::{
        AllowSpec, Changed, PublishSpec, Refusal, RefusalKind, Refused, Status, UnpublishSpec,
    },
};
use crate::{
    config::{
        ports::{AddrPorts, shortened},
        publish::{PairFault, expand, expand_listen, for_port},
    },
    model::{AllowList, Source},
    service::Handle,
};

/// Bytes of a request's body: room for every port of the host, one entry each. Ranges take less.
const BODY: usize = 4 << 20;
/// Bytes of a body that is nothing special. Only one larger one is taken in at a time: what clients can make the
/// service hold in memory is bounded, however many they are.
const SMALL: u64 = 64 << 10;
/// What may be asked for.
const PATHS: &str = "GET /v1/status; POST, PATCH and DELETE /v1/ports";
/// How long a request may take, its body included.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers until the listener fails. Drop the future to stop.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: UnixListener, handle: Handle) -> io::Result<()> {
    let app = Router::new()
        .route("/v1/status", get(status))
        .route(
            "/v1/ports",
            axum::routing::post(publish).patch(allow).delete(unpublish),
        )
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY))
        .layer(Extension(Turn::new()))
        .layer(middleware::from_fn_with_state(
            Arc::new(Semaphore::new(1)),
            queue,
        ))
        .layer(middleware::from_fn(hurry))
        .with_state(handle);
    door::serve(listener, app).await
}

/// A body that does not come is not waited for.
async fn hurry(request: Request, next: Next) -> Response {
    match time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refusal::new(
            RefusalKind::TooSlow,
            "the request took too long to arrive; send it at once",
        )
        .into_response(),
    }
}

/// Large bodies, and those that do not say how large they are, wait for each other; small ones wait for nobody.
async fn queue(State(large): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let length = request.body().size_hint().upper();
    if length.is_some_and(|length| length > BODY as u64) {
        let message = format!(
            "a body of more than {} MiB; send less at a time",
            BODY >> 20
        );
        return Refusal::new(RefusalKind::TooLarge, message).into_response();
    }
    let permit = match length {
        Some(length) if length <= SMALL => None,
        _ => large.acquire_owned().await.ok(),
    };
    let response = next.run(request).await;
    drop(permit);
    response
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.kind {
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Method => StatusCode::METHOD_NOT_ALLOWED,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::TooSlow => StatusCode::REQUEST_TIMEOUT,
            RefusalKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            RefusalKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(Refused { error: self })).into_response()
    }
}

async fn no_such_path(uri: Uri) -> Refusal {
    let message = format!("no such path; there are {PATHS}");
    Refusal::new(RefusalKind::NotFound, message).about("", shortened(uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    let message = format!("not by {}; there are {PATHS}", shortened(method.as_str()));
    Refusal::new(RefusalKind::Method, message).about("", shortened(uri.path()))
}

async fn status(State(handle): State<Handle>) -> Result<Json<Status>, Refusal> {
    handle.status().await.map(Json)
}

async fn publish(
    State(handle): State<Handle>,
    Extension(peer): Extension<Peer>,
    Extension(turn): Extension<Turn>,
    specs: Result<Json<Entries<PublishSpec>>, JsonRejection>,
) -> Result<Json<Changed>, Refusal> {
    let specs = body(specs)?;
    let places = places(specs.iter().map(|spec| &spec.listen))?;
    let _turn = turn.of(places.iter().copied()).await?;
    let mut publications = Vec::new();
    for (index, (spec, listen)) in specs.iter().zip(places).enumerate() {
        let to = parse(index, "to", &spec.to)?;
        let allow = read_list(index, spec.allow.as_deref())?;
        let source = (Source::Api, "api");
        let ports =
            expand(&listen, &to, spec.protocol, allow.as_ref(), source).map_err(|fault| {
                let (field, value) = match fault {
                    PairFault::Listen(_) => ("listen", &spec.listen),
                    PairFault::To(_) => ("to", &spec.to),
                    PairFault::Allow(_) => ("allow", &shown(spec.allow.as_deref())),
                };
                invalid(index, field, value, fault.fault())
            })?;
        publications.extend(ports);
    }
    let ports = handle.publish(publications).await?;
    tracing::info!(ports, %peer, "published by the API");
    Ok(Json(Changed { ports }))
}

async fn allow(
    State(handle): State<Handle>,
    Extension(peer): Extension<Peer>,
    Extension(turn): Extension<Turn>,
    specs: Result<Json<Entries<AllowSpec>>, JsonRejection>,
) -> Result<Json<Changed>, Refusal> {
    let specs = body(specs)?;
    let places = places(specs.iter().map(|spec| &spec.listen))?;
    let _turn = turn.of(places.iter().copied()).await?;
    let mut lists = Vec::new();
    for (index, (spec, listen)) in specs.iter().zip(places).enumerate() {
        let list = read_list(index, spec.allow.as_deref())?
            .map(|list| for_port(&list, listen.addr))
            .transpose()
            .map_err(|fault| invalid(index, "allow", &shown(spec.allow.as_deref()), &fault))?;
        lists.extend(expand_listen(&listen, spec.protocol).map(|port| (port, list.clone())));
    }
    let ports = handle.allow(lists).await?;
    tracing::info!(ports, %peer, "allow-lists changed by the API");
    Ok(Json(Changed { ports }))
}

async fn unpublish(
    State(handle): State<Handle>,
    Extension(peer): Extension<Peer>,
    Extension(turn): Extension<Turn>,
    specs: Result<Json<Entries<UnpublishSpec>>, JsonRejection>,
) -> Result<Json<Changed>, Refusal> {
    let specs = body(specs)?;
    let places = places(specs.iter().map(|spec| &spec.listen))?;
    let _turn = turn.of(places.iter().copied()).await?;
    let mut listens = Vec::new();
    for (spec, listen) in specs.iter().zip(places) {
        listens.extend(expand_listen(&listen, spec.protocol));
    }
    let ports = handle.unpublish(listens).await?;
    tracing::info!(ports, %peer, "withdrawn by the API");
    Ok(Json(Changed { ports }))
}

fn body<T>(body: Result<Json<Entries<T>>, JsonRejection>) -> Result<Vec<T>, Refusal> {
    let Json(Entries(body)) = body.map_err(|rejection| {
        let kind = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            RefusalKind::TooLarge
        } else {
            RefusalKind::Invalid
        };
        Refusal::new(kind, rejection.body_text())
    })?;
    Ok(body)
}

/// Where the entries listen.
fn places(texts: impl Iterator<Item: AsRef<str>>) -> Result<Vec<AddrPorts>, Refusal> {
    let parsed = texts.enumerate();
    parsed
        .map(|(index, text)| parse(index, "listen", text.as_ref()))
        .collect()
}

fn parse(index: usize, field: &str, value: &str) -> Result<AddrPorts, Refusal> {
    value
        .parse()
        .map_err(|fault| invalid(index, field, value, &fault))
}

/// The allow-list of an entry, if it has one.
fn read_list(index: usize, texts: Option<&[String]>) -> Result<Option<AllowList>, Refusal> {
    let Some(texts) = texts else { return Ok(None) };
    let list = AllowList::parse(texts);
    list.map(Some).map_err(|(place, fault)| {
        match place.and_then(|place| Some((place, texts.get(place)?))) {
            Some((place, text)) => invalid(index, &format!("allow[{place}]"), text, &fault),
            None => invalid(index, "allow", &shown(Some(texts)), &fault),
        }
    })
}

/// A list as a value that is to blame.
fn shown(texts: Option<&[String]>) -> String {
    shortened(&format!("{:?}", texts.unwrap_or_default()))
}

fn invalid(index: usize, field: &str, value: &str, fault: &impl ToString) -> Refusal {
    Refusal::new(RefusalKind::Invalid, fault.to_string()).about(format!("[{index}].{field}"), value)
}
