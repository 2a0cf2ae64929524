//! What the service knows, and what it does about it.

mod departed;
mod engine;
mod requests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use datapath_common::{binding::Source, names};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, error, info, warn};

use self::departed::Departed;
use super::{collector::Collector, kernel_log, wanted};
use crate::{
    config::Config,
    kernel::{
        adopt::Adopted,
        attach::{self, Hook, Means},
        cgroup,
        pinned::Pinned,
        tables::Tables,
        xdp::{self as driver, Mode},
    },
    model::{Listen, Publication, Wanted},
    reconcile::{
        self, Changes, Desired, Maps,
        forwarding::{self, Switches, Ways},
        isolation,
        led::{self, Led, Ports},
        modes, overlap, stranded,
        xdp::{self, Level},
    },
    sources::{
        docker::View,
        firewall::{Firewall, Stamp},
        listeners::{Holder, Listeners},
        netlink::{Host, Netlink},
    },
};

/// The service's state. The maps hold the rest.
pub(super) struct State {
    config: Config,
    ebpf: Ebpf,
    tables: Tables,
    /// The maps by their identity: what is pinned in their place is not taken for them.
    pins: Adopted,
    maps: Maps,
    /// Ports that the API published: they were in the maps before this service was.
    api: BTreeMap<Listen, Publication>,
    /// What Docker wants, if it is followed.
    docker: Option<watch::Receiver<View>>,
    /// The ports that were Docker's when it began to be followed: they are until it speaks.
    held: Vec<Publication>,
    /// Its containers that went while it was away.
    departed: Departed,
    /// The host's own processes that listen on published ports.
    listeners: Listeners,
    /// Docker has to speak before the picture is whole.
    awaited: bool,
    desired: Desired,
    firewall: Firewall,
    /// The host's packet filters when they were looked at last.
    stamp: Stamp,
    /// The host's switches then.
    switches: Switches,
    /// How packets are sent on.
    ways: Ways,
    /// How packets are met at the driver's level.
    levels: Vec<Level>,
    /// How programs are attached to interfaces.
    means: Means,
    /// What was attached the last time: to interfaces, and at the driver's level.
    hooks: BTreeSet<Hook>,
    drivers: BTreeMap<u32, Mode>,
    /// Ports that were isolated by this service.
    isolated: BTreeSet<u32>,
    led: Led,
    adopted: bool,
    /// The maps held all that was desired, the last time.
    settled: bool,
    started: Instant,
    /// How often it was reconciled, and how often not all of it came into force.
    reconciliations: (u64, u64),
    problems: Vec<String>,
    /// What this host cannot do.
    limits: Vec<String>,
}

impl State {
    /// Takes programs and maps over, and finds there what the API published, and Docker.
    pub(super) fn new(config: Config, mut ebpf: Ebpf) -> Result<Self> {
        kernel_log::read(&mut ebpf).context("what the programs have to say")?;
        let tables = Tables::new(&config.pin_dir);
        let adopted = Adopted::of(&config.pin_dir)?;
        let maps = Maps::open(&tables)?;
        let (mut api, mut present) = (BTreeMap::new(), BTreeMap::new());
        let mut held = Vec::new();
        for port in Pinned::open(&config.pin_dir)?.ports()? {
            present.insert(port.publication.listen, port.publication.clone());
            match port.publication.source {
                Source::Api => drop(api.insert(port.publication.listen, port.publication)),
                Source::Docker => held.push(port.publication),
                Source::File => {}
            }
        }
        let engine = config.docker.socket.exists() || !held.is_empty();
        let awaited = config.docker.enabled.unwrap_or(engine);
        let ways = Ways::default();
        reconcile::settings(&tables, &config, &ways)?;
        Ok(Self {
            firewall: Firewall::open(),
            stamp: Stamp::default(),
            isolated: BTreeSet::new(),
            led: Led::default(),
            switches: Switches::default(),
            ways,
            levels: Vec::new(),
            means: Means::choose(config.attach)?,
            hooks: BTreeSet::new(),
            drivers: BTreeMap::new(),
            pins: adopted,
            maps,
            docker: engine::follow(&config, View::default()),
            held,
            departed: Departed::default(),
            listeners: Listeners::default(),
            config,
            ebpf,
            tables,
            api,
            awaited,
            // Who has a port keeps it: across services too.
            desired: Desired {
                publications: present,
                ..Desired::default()
            },
            adopted: false,
            settled: false,
            started: Instant::now(),
            reconciliations: (0, 0),
            problems: Vec::new(),
            limits: Vec::new(),
        })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Begins to collect garbage.
    pub(super) fn collector(&self) -> Collector {
        Collector::start(self.tables.clone(), self.config.conntrack.gc_interval)
    }

    /// Looks at the host's network, and brings maps and hooks to what should be.
    pub(super) async fn reconcile(&mut self, netlink: &Netlink) -> Result<()> {
        let result = self.compare(netlink).await;
        self.reconciliations.0 += 1;
        self.reconciliations.1 += u64::from(result.is_err());
        result
    }

    async fn compare(&mut self, netlink: &Netlink) -> Result<()> {
        let start = Instant::now();
        // Before the look: what happens meanwhile is seen by the next.
        let relinked = netlink.relinked();
        let host = netlink.dump().await?;
        let looked = start.elapsed();
        let speaks = self.docker_speaks();
        self.departed.look(&host, speaks);
        let (wanted, _) = self.wanted(None);
        let arrived = self.arrived(&wanted.publications, &host, relinked);
        if !arrived.is_empty() {
            netlink.ask_anew(&arrived).await?;
        }
        let result = self.apply(host, wanted);
        self.departed.note(&self.desired, speaks);
        debug!(
            "the network looked at in {looked:.1?}, all in force after {:.1?}",
            start.elapsed()
        );
        result.and(isolation::apply(netlink, &self.desired, &mut self.isolated).await)
    }

    /// Looks for what somebody else did to the maps and could not be seen by comparing them with what is desired.
    pub(super) fn heal(&mut self) -> Result<()> {
        let wrong = self.maps.heal().context("the generations")?;
        if wrong > 0 {
            warn!("somebody else changed {wrong} generations; they are put right");
        }
        let now = &self.desired.publications;
        told(self.led.look_again(&self.tables, now));
        Ok(())
    }

    /// The endpoints that may have just come: those that ports lead to now and led to none before, and after a change of
    /// links all that nobody has answered for.
    fn arrived(
        &self,
        publications: &BTreeMap<Listen, Publication>,
        host: &Host,
        relinked: bool,
    ) -> BTreeSet<IpAddr> {
        let before: BTreeSet<_> = targets(&self.desired.publications).collect();
        let known: BTreeSet<_> = host.neighbours.iter().map(|at| at.addr).collect();
        targets(publications)
            .filter(|addr| !known.contains(addr) && (relinked || !before.contains(addr)))
            .collect()
    }

    fn apply(&mut self, host: Host, mut wanted: Wanted) -> Result<()> {
        self.problems.clone_from(&self.limits);
        if let Err(error) = self.pins.restore(&self.ebpf, &self.config.pin_dir) {
            self.problems.push(format!("{error:#}"));
            return Err(error);
        }
        self.problems.extend(self.misfit());
        self.problems.append(&mut wanted.conflicts);
        if let Some(view) = self.docker.as_ref().map(watch::Receiver::borrow) {
            self.problems.extend(view.fault.clone());
            let problems = view.snapshot.iter().flat_map(|listed| &listed.problems);
            self.problems.extend(problems.cloned());
        }
        let moved = host != self.desired.host;
        let desired = Desired::new(&self.config, wanted, host, &self.desired.uplinks);
        let before = std::mem::replace(&mut self.desired, desired);
        for name in &self.desired.missing {
            self.problems
                .push(format!("interface {name} does not exist; it is waited for"));
        }
        for name in &self.desired.unfit {
            self.problems.push(format!(
                "interface {name}: frames on it have no Ethernet header, which is not supported yet; it is left alone"
            ));
        }
        self.problems.extend(overlap::find(&self.desired));
        let first = !self.adopted;
        let mut result = self.bring_about(self.settled.then_some(&before));
        let now = &self.desired.publications;
        told(if first {
            led::enforce(&self.tables, now)
        } else {
            self.led.end(&self.tables, &before.publications, now, now)
        });
        if !self.ways.beside {
            stranded::end(&before.publications, now);
        }
        self.settled = result.is_ok();
        if moved {
            result = result.and(self.maps.forget_ways());
        }
        if let Err(error) = &result {
            self.problems.push(format!("{error:#}"));
        }
        result
    }

    /// A bound on flows that the maps adopted do not have: the kernel cannot change a map's.
    fn misfit(&self) -> Option<String> {
        let wanted = self.config.conntrack.max_flows;
        let present = self.tables.max_entries(names::maps::FLOWS4).ok()? / 2;
        (wanted != present).then(|| {
            format!(
                "conntrack.max_flows: {wanted}: not in force, the maps that are in use hold {present}; `datapath detach` \
                 (which ends all flows) and a new start make them anew"
            )
        })
    }

    /// Where it is known what was in force `before`, what does not come from a new desire is somebody else's doing.
    fn bring_about(&mut self, before: Option<&Desired>) -> Result<()> {
        let modes = modes::changing(&self.tables, &self.desired)?;
        let changes = self.maps.reconcile(&self.desired);
        if changes
            .as_ref()
            .map_or(true, |changes| changes.endpoints > 0)
        {
            // Flows keep where their packets go.
            self.maps.forget_ways()?;
        }
        let changes = changes?;
        if modes::end(&self.tables, &modes)? > 0 {
            info!("flows of networks that are something else now have ended");
        }
        let explained = before.is_none_or(|before| self.desired.explains(&changes, before));
        if !explained {
            warn!("somebody else changed the maps; they are put right: {changes}");
        } else if changes != Changes::default() {
            info!("maps changed: {changes}");
        }
        let wrote = reconcile::settings(&self.tables, &self.config, &self.ways)?;
        if wrote && before.is_some() {
            warn!("somebody else changed the settings; they are put right");
        }
        if !self.adopted {
            reconcile::allow::enforce(&self.tables, &self.config.pin_dir)?;
        }
        self.attach_to_cgroup();
        self.stamp = self.firewall.stamp();
        self.decide_ways()?;
        self.adopted = true;
        Ok(())
    }

    /// Connections of the host's own end with their ports: what led somewhere `before` and what does `after`.
    fn end_led(&mut self, before: &Ports, after: &Ports) {
        let now = &self.desired.publications;
        told(self.led.end(&self.tables, before, after, now));
    }

    /// Where it cannot be done the host's own processes are not led, and everything else works.
    fn attach_to_cgroup(&mut self) {
        match cgroup::reconcile(&mut self.ebpf, &self.config.pin_dir) {
            Ok(placed) if placed > 0 && self.adopted => {
                warn!(
                    "somebody else took {placed} programs off the root cgroup; they are there again"
                );
            }
            Ok(_) => {}
            Err(error) => {
                let limit = format!("{error:#}");
                if !self.limits.contains(&limit) {
                    warn!("{limit}");
                }
                self.problems.push(limit.clone());
                self.limits = vec![limit];
                return;
            }
        }
        self.limits.clear();
    }

    /// Something in the host's network changed: no next hop counts until the stack has shown it anew.
    pub(super) fn forget_ways(&mut self) -> Result<()> {
        self.maps.forget_ways()
    }

    /// Looks whether the host's packet filters were changed, or its switches turned, and decides anew how
    /// packets are sent on if so.
    pub(super) fn watch_firewall(&mut self) -> Result<()> {
        let stamp = self.firewall.stamp();
        if stamp == self.stamp && forwarding::switches(&self.desired) == self.switches {
            return Ok(());
        }
        self.stamp = stamp;
        self.decide_ways()
    }

    /// Looks whether the maps are still pinned, and the programs that everything depends on still where they were put,
    /// and sees to it if not. Ports of endpoints are left to the next look at everything: without theirs all works, by
    /// the bridge.
    pub(super) fn watch_pins(&mut self) -> Result<()> {
        let dir = self.config.pin_dir.clone();
        if !self.pins.are_pinned(&dir) {
            self.pins.restore(&self.ebpf, &dir)?;
        }
        if !attach::is_whole(&dir, &self.hooks) || !driver::is_whole(&dir, &self.drivers) {
            self.decide_ways()?;
        }
        // Where that could not be done it is tried at the next look at everything.
        if self.limits.is_empty() && !cgroup::is_whole(&dir) {
            self.attach_to_cgroup();
        }
        Ok(())
    }

    /// The settings first: they hold at once, on every interface.
    fn decide_ways(&mut self) -> Result<()> {
        self.switches = forwarding::switches(&self.desired);
        let rules = self.firewall.rules();
        let ways = forwarding::decide(self.config.forwarding, &self.desired, self.switches, &rules);
        if ways != self.ways {
            info!("forwarding: {ways}");
            reconcile::settings(&self.tables, &self.config, &ways)?;
            self.ways = ways;
        }
        let hooks = self
            .desired
            .hooks(self.ways.ipv4.fast || self.ways.ipv6.fast);
        let keep = self.desired.partial;
        attach::reconcile(
            &mut self.ebpf,
            &self.config.pin_dir,
            self.means,
            &hooks,
            &self.hooks,
            keep,
        )?;
        self.hooks = hooks;
        let levels = xdp::apply(
            &mut self.ebpf,
            &self.config.pin_dir,
            &self.tables,
            &self.desired,
            self.config.xdp,
            &mut self.drivers,
        )
        .context("XDP")?;
        xdp::tell(&self.levels, &levels, self.config.xdp);
        self.levels = levels;
        Ok(())
    }

    /// What the sources want, of all ports or of `only` these, and who listens on ports that were asked about.
    fn wanted(&mut self, only: Option<&BTreeSet<Listen>>) -> (Wanted, BTreeMap<Listen, Holder>) {
        let view = self.docker.as_ref().map(watch::Receiver::borrow);
        let snapshot = view.as_ref().and_then(|view| view.snapshot.as_ref());
        let docker = view.as_ref().map(|_| wanted::Docker {
            snapshot,
            held: &self.held,
            awaited: self.awaited,
            gone: Some(self.departed.gone()),
        });
        let present = &self.desired.publications;
        let mut wanted = wanted::gather(&self.config, &self.api, docker, present, only);
        let holders = wanted::yield_to_holders(&mut wanted, &mut self.listeners, snapshot, present);
        (wanted, holders)
    }

    /// Reads the configuration again. A bad one changes nothing.
    pub(super) fn reload(&mut self, path: Option<&Path>) {
        let config = match Config::load_or_default(path) {
            Ok(config) => config,
            Err(error) => {
                error!("the configuration stays as it was: {error}");
                return;
            }
        };
        let fixed = |config: &Config| {
            let Config {
                pin_dir,
                api_socket,
                metrics,
                attach,
                ..
            } = config.clone();
            (pin_dir, api_socket, metrics, attach)
        };
        if fixed(&config) != fixed(&self.config) {
            warn!(
                "pin_dir, api_socket, attach and metrics.listen take effect when the service is started anew"
            );
        }
        let followed = self.config.docker.clone();
        self.config = Config {
            pin_dir: self.config.pin_dir.clone(),
            api_socket: self.config.api_socket.clone(),
            metrics: self.config.metrics,
            attach: self.config.attach,
            ..config
        };
        if let Err(error) = reconcile::settings(&self.tables, &self.config, &self.ways) {
            error!("settings: {error:#}");
        }
        if self.config.docker != followed {
            self.follow_anew();
        }
        if let Some(misfit) = self.misfit() {
            warn!("{misfit}");
        }
        info!("the configuration was read again");
    }
}

/// Sockets that could not be ended are no reason to do nothing else.
fn told(ended: Result<u64>) {
    if let Err(error) = ended {
        warn!("the host's own sockets, led to where its ports do not lead any more: {error:#}");
    }
}

fn targets(publications: &BTreeMap<Listen, Publication>) -> impl Iterator<Item = IpAddr> {
    publications.values().map(|port| port.to)
}
