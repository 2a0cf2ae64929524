//! What clients of the API ask of the service, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use tracing::error;

use super::{super::handle::Request, State};
use crate::{
    api::types::{Refusal, RefusalKind, Status},
    model::{AllowList, Listen, Publication},
    reconcile,
};

impl State {
    pub(in crate::service) fn answer(&mut self, request: Request) {
        // Whoever asked may be gone: then nobody wants the answer.
        match request {
            Request::Publish(publications, answer) => {
                drop(answer.send(self.publish(publications)));
            }
            Request::Unpublish(listens, answer) => {
                drop(answer.send(self.unpublish(&listens)));
            }
            Request::Allow(lists, answer) => {
                drop(answer.send(self.allow(lists)));
            }
            Request::Status(answer) => {
                drop(answer.send(self.status()));
            }
        }
    }

    fn publish(&mut self, publications: Vec<Publication>) -> Result<usize, Refusal> {
        let mut asked = BTreeSet::new();
        for (index, publication) in publications.iter().enumerate() {
            if !asked.insert(publication.listen) {
                let message = "twice in this request; say once where it leads";
                return Err(Refusal::new(RefusalKind::Invalid, message)
                    .about(format!("[{index}].listen"), publication.listen.to_string()));
            }
        }
        let mut present = self.desired.publications.iter();
        if let Some(taken) = present.find(|port| asked.contains(&port.listen)) {
            let message = format!(
                "already published by {}; withdraw it there first",
                taken.owner
            );
            let index = publications
                .iter()
                .position(|port| port.listen == taken.listen)
                .unwrap_or_default();
            return Err(Refusal::new(RefusalKind::Conflict, message)
                .about(format!("[{index}].listen"), taken.listen.to_string()));
        }
        let listens = publications.iter().map(|port| port.listen);
        let holders = self.listeners.holders(listens);
        for (index, publication) in publications.iter().enumerate() {
            if let Some(holder) = holders.get(&publication.listen) {
                return Err(Refusal::new(RefusalKind::Conflict, holder.objection())
                    .about(format!("[{index}].listen"), publication.listen.to_string()));
            }
        }
        let count = publications.len();
        let before = self.api.clone();
        self.api
            .extend(publications.into_iter().map(|port| (port.listen, port)));
        self.change(before).map(|()| count)
    }

    fn unpublish(&mut self, listens: &[Listen]) -> Result<usize, Refusal> {
        self.require_own(listens.iter().copied(), "withdraw it there")?;
        let before = self.api.clone();
        for listen in listens {
            self.api.remove(listen);
        }
        self.change(before).map(|()| listens.len())
    }

    fn allow(&mut self, lists: Vec<(Listen, Option<AllowList>)>) -> Result<usize, Refusal> {
        let listens = lists.iter().map(|(listen, _)| *listen);
        self.require_own(listens, "change its list there")?;
        let count = lists.len();
        let before = self.api.clone();
        for (listen, list) in lists {
            if let Some(port) = self.api.get_mut(&listen) {
                port.allow = list;
            }
        }
        self.change(before).map(|()| count)
    }

    /// Refuses what the API did not publish.
    fn require_own(
        &self,
        listens: impl Iterator<Item = Listen>,
        remedy: &str,
    ) -> Result<(), Refusal> {
        for (index, listen) in listens.enumerate() {
            if self.api.contains_key(&listen) {
                continue;
            }
            let owner = self
                .desired
                .publications
                .iter()
                .find(|port| port.listen == listen);
            let refusal = match owner {
                Some(port) => Refusal::new(
                    RefusalKind::Conflict,
                    format!("published by {}; {remedy}", port.owner),
                ),
                None => Refusal::new(
                    RefusalKind::NotFound,
                    "not published; `datapath ports` lists what is",
                ),
            };
            return Err(refusal.about(format!("[{index}].listen"), listen.to_string()));
        }
        Ok(())
    }

    /// Puts a change of the API's ports into force, or takes it back.
    fn change(&mut self, before: BTreeMap<Listen, Publication>) -> Result<(), Refusal> {
        self.desired.publications = self.wanted().publications;
        let result = reconcile::reconcile(&self.tables, &mut self.generations, &self.desired)
            .context("the maps");
        result.map(drop).map_err(|error| {
            self.api = before;
            self.desired.publications = self.wanted().publications;
            let undone = reconcile::reconcile(&self.tables, &mut self.generations, &self.desired);
            if let Err(error) = undone {
                error!("taking a refused change back: {error:#}");
            }
            Refusal::new(RefusalKind::Unavailable, format!("{error:#}"))
        })
    }

    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            ready: self.adopted,
            uptime: self.started.elapsed().as_secs(),
            uplinks: self
                .desired
                .uplinks
                .iter()
                .map(|link| link.name.clone())
                .collect(),
            networks: self
                .desired
                .networks
                .iter()
                .map(|(net, _)| net.bridge.clone())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            ports: self.desired.publications.len(),
            docker: self.docker.as_ref().map(|docker| {
                let view = docker.borrow();
                view.fault.is_none() && view.snapshot.is_some()
            }),
            forwarding: self.ways.clone(),
            reconciliations: self.reconciliations.0,
            reconcile_errors: self.reconciliations.1,
            xdp: self.levels.clone(),
            problems: self.problems.clone(),
        }
    }
}
