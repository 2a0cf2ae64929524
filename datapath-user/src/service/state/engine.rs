//! The engine that the service follows, and whether it speaks.

use tokio::sync::watch;

use super::State;
use crate::{
    config::Config,
    sources::docker::{self, View},
};

impl State {
    /// Where Docker's news come in, if it is followed.
    pub(in crate::service) fn docker(&self) -> Option<watch::Receiver<View>> {
        self.docker.clone()
    }

    /// Whether Docker has to speak before the picture is whole.
    pub(in crate::service) fn awaits_docker(&self) -> bool {
        self.awaited
    }

    /// Whether Docker is followed, and there.
    pub(super) fn docker_speaks(&self) -> bool {
        let view = self.docker.as_ref().map(watch::Receiver::borrow);
        view.is_some_and(|view| view.fault.is_none() && view.snapshot.is_some())
    }

    /// Follows it as the configuration says now. What it said last stays in force until it speaks.
    pub(super) fn follow_anew(&mut self) {
        let last = self.docker.take().map(|docker| docker.borrow().clone());
        let silent = last.as_ref().is_some_and(|last| last.snapshot.is_none());
        self.docker = follow(&self.config, last.unwrap_or_default());
        if !silent || self.docker.is_none() {
            // What this service found in the maps is not in force any more.
            self.held.clear();
        }
    }
}

/// Follows Docker, unless it is switched off. Where nobody said so, it is followed from when it is there. Until it speaks
/// `last` is what it said.
pub(super) fn follow(config: &Config, last: View) -> Option<watch::Receiver<View>> {
    let wanted = config.docker.enabled != Some(false);
    let sure = config.docker.enabled == Some(true);
    wanted.then(|| docker::follow(config.docker.socket.clone(), sure, last))
}
