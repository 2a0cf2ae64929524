//! docker-proxy: a process for each published port, which nobody needs any more.

use super::super::{Found, Subject, fine, todo};
use crate::processes;

pub(super) fn look(_: &Subject) -> Found {
    let proxies = processes::named("docker-proxy");
    if proxies.is_empty() {
        return vec![fine("no docker-proxy runs")];
    }
    vec![todo(
        format!("{} docker-proxy processes run", proxies.len()),
        "they end when Docker is restarted with \"userland-proxy\": false",
    )]
}
