//! The sources put together: what the configuration file, the API and Docker want, side by side.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, btree_map::Entry},
};

use crate::{
    config::Config,
    model::{Listen, Publication, Wanted},
    sources::docker::Snapshot,
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
}

/// Puts them together. A port that two want stays with the one that has it in `present`, else it is the file's
/// before the API's before Docker's. A bridge that the file names is as the file says.
pub(super) fn gather(
    config: &Config,
    api: &BTreeMap<Listen, Publication>,
    docker: Option<Docker<'_>>,
    present: &[Publication],
) -> Wanted {
    let docker = docker.unwrap_or_default();
    let snapshot = docker.snapshot;
    let mut wanted = Wanted {
        networks: config.networks.clone(),
        partial: docker.awaited && snapshot.is_none(),
        ..Wanted::default()
    };
    for network in snapshot.iter().flat_map(|snapshot| &snapshot.networks) {
        let known = |own: &crate::model::Network| own.bridge == network.bridge;
        // Docker may have two for one bridge, a family each.
        if !config.networks.iter().any(known) {
            wanted.networks.push(network.clone());
        }
    }
    // Asked only where two want the same.
    let owners: LazyCell<BTreeMap<_, _>, _> = LazyCell::new(|| {
        let present = present.iter();
        present
            .map(|port| (port.listen, (port.source, &port.owner)))
            .collect()
    });
    let file = config.publications.iter();
    let docker = snapshot.map_or(docker.held, |snapshot| &snapshot.publications);
    let mut ports: BTreeMap<Listen, &Publication> = BTreeMap::new();
    for port in file.chain(api.values()).chain(docker) {
        match ports.entry(port.listen) {
            Entry::Vacant(place) => {
                place.insert(port);
            }
            Entry::Occupied(mut place) => {
                let owner = owners.get(&port.listen);
                let loser = if owner == Some(&(port.source, &port.owner)) {
                    place.insert(port)
                } else {
                    port
                };
                let keeper = place.get();
                wanted.conflicts.push(format!(
                    "{}: {} wants it, but {} has it",
                    port.listen, loser.owner, keeper.owner
                ));
            }
        }
    }
    wanted.publications = ports.into_values().cloned().collect();
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, Source};

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

    #[test]
    fn whoever_has_a_port_keeps_it_and_the_conflict_names_both() {
        let api: BTreeMap<_, _> = [port(Source::Api, "api", "172.17.0.2")]
            .map(|port| (port.listen, port))
            .into();
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
            let wanted = gather(&Config::default(), &api, Some(docker), &present);
            assert_eq!(wanted.publications.len(), 1);
            assert_eq!(wanted.publications[0].owner, keeper);
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
            };
            let wanted = gather(&Config::default(), &BTreeMap::new(), Some(silent), &[]);
            assert_eq!(wanted.partial, awaited);
            assert_eq!(wanted.publications, held);
        }
        let wanted = gather(&Config::default(), &BTreeMap::new(), None, &[]);
        assert!(!wanted.partial && wanted.publications.is_empty());
    }
}
