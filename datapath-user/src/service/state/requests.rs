//! What clients of the API ask of the service, and what becomes of it.

use std::collections::BTreeSet;

use anyhow::Context as _;
use tracing::error;

use super::{super::handle::Request, State};
use crate::{
    api::types::{Refusal, RefusalKind, Status},
    model::{AllowList, Listen, Publication, Source, Wanted, every_address},
    reconcile::led::Ports,
};

/// What the API had at some places; `None` for nothing.
type Former = Vec<(Listen, Option<Publication>)>;

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
        for (index, publication) in publications.iter().enumerate() {
            if let Some(taken) = self.desired.publications.get(&publication.listen) {
                let message = format!(
                    "already published by {}; withdraw it there first",
                    taken.owner
                );
                return Err(Refusal::new(RefusalKind::Conflict, message)
                    .about(format!("[{index}].listen"), publication.listen.to_string()));
            }
        }
        let before = self.api_at(&asked);
        let order: Vec<_> = publications.iter().map(|port| port.listen).collect();
        let new = publications.into_iter();
        self.api.extend(new.map(|port| (port.listen, port)));
        let (wanted, holders) = self.wanted(Some(&asked));
        for (index, listen) in order.iter().enumerate() {
            let message = match (holders.get(listen), wanted.publications.get(listen)) {
                (Some(holder), _) => holder.objection(),
                (None, Some(port)) if port.source != Source::Api => {
                    format!("wanted by {}; withdraw it there first", port.owner)
                }
                (None, _) => continue,
            };
            self.restore(before);
            return Err(Refusal::new(RefusalKind::Conflict, message)
                .about(format!("[{index}].listen"), listen.to_string()));
        }
        self.change(&asked, wanted, before).map(|()| order.len())
    }

    fn unpublish(&mut self, listens: &[Listen]) -> Result<usize, Refusal> {
        self.require_own(listens.iter().copied(), "withdraw it there")?;
        let asked = listens.iter().copied().collect();
        let before = self.api_at(&asked);
        for listen in listens {
            self.api.remove(listen);
        }
        let (wanted, _) = self.wanted(Some(&asked));
        self.change(&asked, wanted, before).map(|()| listens.len())
    }

    fn allow(&mut self, lists: Vec<(Listen, Option<AllowList>)>) -> Result<usize, Refusal> {
        let listens = lists.iter().map(|(listen, _)| *listen);
        self.require_own(listens.clone(), "change its list there")?;
        let asked = listens.collect();
        let before = self.api_at(&asked);
        let count = lists.len();
        for (listen, list) in lists {
            if let Some(port) = self.api.get_mut(&listen) {
                port.allow = list;
            }
        }
        let (wanted, _) = self.wanted(Some(&asked));
        self.change(&asked, wanted, before).map(|()| count)
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
            let owner = self.desired.publications.get(&listen);
            let refusal = match owner {
                Some(port) => Refusal::new(
                    RefusalKind::Conflict,
                    format!("published by {}; {remedy}", port.owner),
                ),
                None => Refusal::new(RefusalKind::NotFound, self.not_published(listen)),
            };
            return Err(refusal.about(format!("[{index}].listen"), listen.to_string()));
        }
        Ok(())
    }

    /// Who means an IPv6 port may have left its address out.
    fn not_published(&self, listen: Listen) -> String {
        let every = Listen {
            addr: every_address(true),
            ..listen
        };
        if listen.addr == every_address(false) && self.desired.publications.contains_key(&every) {
            return format!("not published, but {every} is; name that address");
        }
        "not published; `datapath ports` lists what is".to_owned()
    }

    /// The API's ports at these places as they are now, to take a change back.
    fn api_at(&self, listens: &BTreeSet<Listen>) -> Former {
        let ports = listens.iter();
        ports.map(|at| (*at, self.api.get(at).cloned())).collect()
    }

    fn restore(&mut self, before: Former) {
        for (listen, port) in before {
            match port {
                Some(port) => drop(self.api.insert(listen, port)),
                None => drop(self.api.remove(&listen)),
            }
        }
    }

    /// Puts what is `wanted` at these places now into force, or takes the change of the API's ports back.
    fn change(
        &mut self,
        asked: &BTreeSet<Listen>,
        mut wanted: Wanted,
        before: Former,
    ) -> Result<(), Refusal> {
        let ports = &wanted.publications;
        let ports = asked.iter().map(|at| (*at, ports.get(at))).collect();
        if let Err(error) = self.maps.change(&ports).context("the maps") {
            self.restore(before);
            if let Err(error) = self.maps.reconcile(&self.desired) {
                error!("taking a refused change back: {error:#}");
            }
            return Err(Refusal::new(RefusalKind::Unavailable, format!("{error:#}")));
        }
        let (mut before, mut after) = (Ports::new(), Ports::new());
        for listen in asked {
            let former = match wanted.publications.remove(listen) {
                Some(port) => {
                    after.insert(*listen, port.clone());
                    self.desired.publications.insert(*listen, port)
                }
                None => self.desired.publications.remove(listen),
            };
            before.extend(former.map(|port| (*listen, port)));
        }
        self.end_led(&before, &after);
        Ok(())
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
