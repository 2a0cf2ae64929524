//! The sources put together: what the configuration file, the API and Docker want, side by side.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::IpAddr,
};

use crate::{
    config::Config,
    model::{Listen, Network, Publication, Source, Wanted},
    sources::{
        docker::Snapshot,
        listeners::{Holder, Listeners},
    },
};

/// What is known of Docker's wishes.
#[derive(Clone, Copy, Default)]
pub(super) struct Docker<'a> {
    /// What it said last, if it has spoken.
    pub(super) snapshot: Option<&'a Snapshot>,
    /// Its ports until then.
    pub(super) held: &'a [Publication],
    /// Nothing is whole before it has spoken.
    pub(super) awaited: bool,
    /// Endpoints that went since: no port leads there.
    pub(super) gone: Option<&'a BTreeSet<IpAddr>>,
}

/// Puts them together: all, or what is wanted of `only` these ports, which leaves the networks out. A port that two want
/// stays with the one that has it in `present`, else it is the file's before the API's before Docker's. A bridge that the
/// file names is as the file says.
pub(super) fn gather(
    config: &Config,
    api: &BTreeMap<Listen, Publication>,
    docker: Option<Docker<'_>>,
    present: &BTreeMap<Listen, Publication>,
    only: Option<&BTreeSet<Listen>>,
) -> Wanted {
    let docker = docker.unwrap_or_default();
    let mut wanted = Wanted {
        partial: docker.awaited && docker.snapshot.is_none(),
        ..Wanted::default()
    };
    if only.is_none() {
        wanted.networks = networks(config, docker.snapshot);
    }
    let file = config.publications.iter();
    let listed = docker
        .snapshot
        .map_or(docker.held, |snapshot| &snapshot.publications)
        .iter()
        .filter(|port| !docker.gone.is_some_and(|gone| gone.contains(&port.to)));
    let mut ports: BTreeMap<Listen, &Publication> = BTreeMap::new();
    for port in file.chain(api.values()).chain(listed) {
        if only.is_some_and(|only| !only.contains(&port.listen)) {
            continue;
        }
        match ports.entry(port.listen) {
            Entry::Vacant(place) => {
                place.insert(port);
            }
            Entry::Occupied(mut place) => {
                let owner = present.get(&port.listen);
                let has = owner.is_some_and(|owner| {
                    (owner.source, &owner.owner) == (port.source, &port.owner)
                });
                let loser = if has { place.insert(port) } else { port };
                let keeper = place.get();
                wanted.conflicts.push(format!(
                    "{}: {} wants it, but {} has it",
                    port.listen, loser.owner, keeper.owner
                ));
            }
        }
    }
    let ports = ports.into_iter();
    wanted.publications = ports.map(|(listen, port)| (listen, port.clone())).collect();
    wanted
}

fn networks(config: &Config, snapshot: Option<&Snapshot>) -> Vec<Network> {
    let known = |bridge: &str| config.networks.iter().any(|own| own.bridge == bridge);
    let docker = snapshot.into_iter().flat_map(|snapshot| &snapshot.networks);
    // Docker may have two for one bridge, a family each.
    let docker = docker.filter(|network| !known(&network.bridge));
    config.networks.iter().chain(docker).cloned().collect()
}

/// Leaves ports to the processes of the host that listen on them, unless those came later, and says who they are. Docker
/// sees to the ports that it lists itself: it holds each with a socket, whose process may not be seen from here.
pub(super) fn yield_to_holders(
    wanted: &mut Wanted,
    listeners: &mut Listeners,
    snapshot: Option<&Snapshot>,
    present: &BTreeMap<Listen, Publication>,
) -> BTreeMap<Listen, Holder> {
    let unlisted = |listen| snapshot.is_some_and(|snapshot| snapshot.unlisted.contains(listen));
    let ports = wanted.publications.values();
    let own = ports.filter(|port| port.source != Source::Docker || unlisted(&port.listen));
    let holders = listeners.holders(own.map(|port| port.listen));
    for (listen, holder) in &holders {
        let Some(port) = wanted.publications.get(listen) else {
            continue;
        };
        let to = port.target();
        let what = if present.contains_key(listen) {
            format!("gets nothing of what goes to {to}; stop it, or withdraw the port")
        } else {
            wanted.publications.remove(listen);
            "has it; it is published as soon as it is free".to_owned()
        };
        wanted.conflicts.push(format!("{listen}: {holder}, {what}"));
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    fn port(source: Source, owner: &str, to: &str) -> Publication {
        Publication {
            listen: Listen {
                addr: "0.0.0.0".parse().unwrap(),
                port: 80,
                protocol: Protocol::Tcp,
            },
            to: to.parse().unwrap(),
            to_port: 80,
            allow: None,
            source,
            owner: owner.to_owned(),
        }
    }

    fn by_listen(ports: impl IntoIterator<Item = Publication>) -> BTreeMap<Listen, Publication> {
        ports.into_iter().map(|port| (port.listen, port)).collect()
    }

    #[test]
    fn whoever_has_a_port_keeps_it_and_the_conflict_names_both() {
        let api = by_listen([port(Source::Api, "api", "172.17.0.2")]);
        let container = port(Source::Docker, "c0ffee", "172.17.0.3");
        let snapshot = Snapshot {
            publications: vec![container.clone()],
            ..Snapshot::default()
        };
        let docker = Docker {
            snapshot: Some(&snapshot),
            ..Docker::default()
        };
        for (present, keeper) in [(vec![], "api"), (vec![container], "c0ffee")] {
            let present = by_listen(present);
            let wanted = gather(&Config::default(), &api, Some(docker), &present, None);
            let owners: Vec<_> = wanted
                .publications
                .values()
                .map(|port| &port.owner)
                .collect();
            assert_eq!(owners, [keeper]);
            let only = api.keys().copied().collect();
            let same = gather(
                &Config::default(),
                &api,
                Some(docker),
                &present,
                Some(&only),
            );
            assert_eq!(same, wanted);
            let other = gather(
                &Config::default(),
                &api,
                Some(docker),
                &present,
                Some(&BTreeSet::new()),
            );
            assert_eq!(other, Wanted::default());
            let conflict = wanted.conflicts.concat();
            assert!(
                conflict.ends_with(&format!("but {keeper} has it")),
                "{conflict}"
            );
            assert!(conflict.contains("api") && conflict.contains("c0ffee"));
        }
    }

    #[test]
    fn until_docker_has_spoken_its_ports_stay_and_the_picture_is_partial_where_it_is_awaited() {
        let held = [port(Source::Docker, "c0ffee", "172.17.0.3")];
        for awaited in [true, false] {
            let silent = Docker {
                snapshot: None,
                held: &held,
                awaited,
                gone: None,
            };
            let wanted = gather(
                &Config::default(),
                &BTreeMap::new(),
                Some(silent),
                &BTreeMap::new(),
                None,
            );
            assert_eq!(wanted.partial, awaited);
            assert_eq!(wanted.publications, by_listen(held.clone()));
        }
        let wanted = gather(
            &Config::default(),
            &BTreeMap::new(),
            None,
            &BTreeMap::new(),
            None,
        );
        assert!(!wanted.partial && wanted.publications.is_empty());
    }
}
