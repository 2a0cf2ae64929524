//! What the checks look at, gathered once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    api::client::{Client, Service},
    config::{Config, ConfigError, DEFAULT_PATH},
    docker_config,
    model::Wanted,
    processes::Process,
    reconcile::Desired,
    sources::{
        docker::{self, Seen},
        firewall::Firewall,
        netlink::{Host, Link, Netlink},
    },
};

use super::rules::Rules;

/// How long the engine has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The host.
pub struct Subject {
    /// The configuration: the defaults where the file is bad.
    pub(super) config: Config,
    /// The file that it was read from; `None` where there is none.
    pub(super) config_path: Option<PathBuf>,
    /// What is wrong with the file.
    pub(super) config_fault: Option<ConfigError>,
    /// Whether everything may be looked at.
    pub(super) root: bool,
    /// The engines that run here.
    pub(super) engines: Vec<Process>,
    /// What the engine says, or why it says nothing; `None` where there is none, or none is wanted.
    pub(super) docker: Option<Result<Seen, String>>,
    /// The service.
    pub(super) service: Service,
    /// The host's network; `None` where it cannot be read.
    pub(super) desired: Desired,
    /// The ids of XDP programs, by uplink or bridge.
    pub(super) xdp: BTreeMap<String, BTreeSet<u32>>,
    /// What stands in a forwarded packet's way.
    pub(super) obstacle: Option<crate::sources::firewall::Obstacle>,
    /// The host's iptables.
    pub(super) rules: Rules,
}

impl Subject {
    /// Looks. `path` is the configuration's file, if one was named, and `config_fault` what is wrong with it.
    pub async fn look(
        config: Config,
        path: Option<PathBuf>,
        config_fault: Option<ConfigError>,
    ) -> Self {
        let service = Client::new(&config.api_socket).look().await;
        let socket = &config.docker.socket;
        let wanted = config.docker.enabled.unwrap_or_else(|| socket.exists());
        let docker = if wanted {
            let seen = tokio::time::timeout(PATIENCE, docker::ask(socket)).await;
            Some(match seen {
                Ok(Ok(seen)) => Ok(seen),
                Ok(Err(error)) => Err(format!("{error:#}")),
                Err(_) => Err(format!("no answer within {} seconds", PATIENCE.as_secs())),
            })
        } else {
            None
        };
        let mut networks = config.networks.clone();
        if let Some(Ok(seen)) = &docker {
            networks.extend(seen.snapshot.networks.iter().cloned());
        }
        let wanted = Wanted {
            networks,
            ..Wanted::default()
        };
        let netlink = Netlink::connect().ok();
        let host = match &netlink {
            Some(netlink) => netlink.dump().await.unwrap_or_default(),
            None => Host::default(),
        };
        let desired = Desired::new(&config, wanted, host, &[]);
        let mut xdp = BTreeMap::new();
        if let Some(netlink) = &netlink {
            for link in desired
                .host
                .links
                .iter()
                .filter(|link| is_ours(&desired, link))
            {
                let programs = netlink.xdp_programs(link.ifindex).await.unwrap_or_default();
                if !programs.is_empty() {
                    xdp.insert(link.name.clone(), programs);
                }
            }
        }
        Self {
            xdp,
            root: nix::unistd::geteuid().is_root(),
            engines: docker_config::engines(),
            service,
            obstacle: Firewall::open().rules().obstacle,
            rules: Rules::read(),
            desired,
            docker,
            config,
            config_path: path.or_else(|| {
                let default = Path::new(DEFAULT_PATH);
                default.exists().then(|| default.to_owned())
            }),
            config_fault,
        }
    }

    /// The bridges of all networks.
    pub(super) fn bridges(&self) -> Vec<String> {
        let networks = self.desired.networks.iter();
        let mut bridges: Vec<_> = networks.map(|(net, _)| net.bridge.clone()).collect();
        bridges.dedup();
        bridges
    }

    /// The uplinks.
    pub(super) fn uplinks(&self) -> Vec<String> {
        let uplinks = self.desired.uplinks.iter();
        uplinks.map(|link| link.name.clone()).collect()
    }
}

/// Whether an interface is an uplink or a bridge of a network.
fn is_ours(desired: &Desired, link: &Link) -> bool {
    let mut bridges = desired.networks.iter().map(|(_, bridge)| *bridge);
    desired.uplinks.contains(link) || bridges.any(|bridge| bridge == link.ifindex)
}

/// A setting of the kernel, such as `net.ipv4.ip_forward`; `None` where there is no such setting.
pub(super) fn sysctl(name: &str) -> Option<String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}
