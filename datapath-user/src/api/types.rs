//! What goes over the API, and what `--json` prints of it. Fields may be added; none is renamed or removed.

use serde::{Deserialize, Serialize};

use crate::{
    model::Protocol,
    reconcile::{forwarding::Ways, xdp::Level},
};

/// The service, as it sees itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The first reconciliation is done: what is configured is in force.
    pub ready: bool,
    /// Seconds since it started.
    pub uptime: u64,
    /// The uplinks in use.
    pub uplinks: Vec<String>,
    /// The bridges of the managed networks.
    pub networks: Vec<String>,
    /// How many ports are published, from all sources.
    pub ports: usize,
    /// Whether Docker speaks to us; `None` when it is switched off or not there.
    pub docker: Option<bool>,
    /// How packets of flows are sent on: past the stack or through it, and why.
    #[serde(default)]
    pub forwarding: Ways,
    /// How often maps and hooks were compared with what should be.
    #[serde(default)]
    pub reconciliations: u64,
    /// How often something could not be brought into force.
    #[serde(default)]
    pub reconcile_errors: u64,
    /// How packets are met at the driver's level of each uplink, and why.
    #[serde(default)]
    pub xdp: Vec<Level>,
    /// What the last reconciliation could not do, a line each.
    pub problems: Vec<String>,
}

/// Why a change was refused. Nothing of it was done then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", describe(.field, .value, .message))]
pub struct Refusal {
    /// What kind of refusal it is; decides on the HTTP status.
    #[serde(skip)]
    pub kind: RefusalKind,
    /// The field that is to blame, such as `[3].listen`; empty when it is none of them.
    pub field: String,
    /// Its value.
    pub value: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request makes no sense: 400.
    Invalid,
    /// Names something that is not there: 404.
    NotFound,
    /// Nothing that can be done with it: 405.
    Method,
    /// Somebody else has it: 409.
    Conflict,
    /// Did not arrive in time: 408.
    TooSlow,
    /// Too much: 413.
    TooLarge,
    /// The service cannot at the moment (starting, ending, map full): 503.
    Unavailable,
    /// The kernel refused: 500.
    #[default]
    Failed,
}

/// A refused request's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub error: Refusal,
}

/// One entry of the body of `POST /v1/ports`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishSpec {
    /// Address and port, or range of ports: `0.0.0.0:8080`, `[::]:7000-7009`.
    pub listen: String,
    /// Address and port, or range of the same length, of the endpoint.
    pub to: String,
    /// The protocol.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    /// The networks that may ask; `null` or nothing for everybody.
    #[serde(default)]
    pub allow: Option<Vec<String>>,
}

/// One entry of the body of `PATCH /v1/ports`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowSpec {
    /// Address and port, or range of ports, as they were published.
    pub listen: String,
    /// The protocol.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    /// The networks that may ask from now on; `null` for everybody. It has to be there.
    #[serde(deserialize_with = "Option::deserialize")]
    pub allow: Option<Vec<String>>,
}

/// One entry of the body of `DELETE /v1/ports`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnpublishSpec {
    /// Address and port, or range of ports, as they were published.
    pub listen: String,
    /// The protocol.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
}

/// The answer to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// How many ports (each of a range) it concerned.
    pub ports: usize,
}

const fn tcp() -> Protocol {
    Protocol::Tcp
}

/// One line of a field, its value and what is wrong with it; the first two are left out when empty.
fn describe(field: &str, value: &str, message: &str) -> String {
    let mut line = String::new();
    for part in [field, value] {
        if !part.is_empty() {
            line.push_str(part);
            line.push_str(": ");
        }
    }
    line + message
}

impl Refusal {
    /// A refusal that blames no field.
    #[must_use]
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            field: String::new(),
            value: String::new(),
            message: message.into(),
        }
    }

    /// The same, blaming a field and its value.
    #[must_use]
    pub fn about(mut self, field: impl Into<String>, value: impl Into<String>) -> Self {
        self.field = field.into();
        self.value = value.into();
        self
    }
}
