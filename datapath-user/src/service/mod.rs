//! The service: sources in, one reconciler, maps out.
//!
//! Ending it stops nothing: programs, maps and links are pinned, and the next one adopts them.

mod collector;
mod handle;
mod kernel_log;
mod privileges;
mod state;
mod systemd;
mod wanted;

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{self, Instant, MissedTickBehavior},
};
use tracing::{error, info, warn};

pub use self::handle::Handle;
use self::{state::State, systemd::Watchdog};
use crate::{
    config::Config,
    descriptors,
    kernel::object,
    lock::{self, Lock},
    metrics, reconcile,
    sources::{docker::View, netlink::Netlink},
};

/// How long messages of the kernel are gathered before the network is looked at anew.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// How often maps and links are compared with what they should be when nothing happens: heals tampering.
const HEAL: Duration = Duration::from_secs(10);
/// How often the host's packet filters are asked whether they were changed: a new rule has its say within
/// that time.
const FIREWALL: Duration = Duration::from_millis(250);
/// How often it is looked whether the maps are still pinned and the programs still attached.
const PINS: Duration = Duration::from_secs(1);
/// How long the start waits for what Docker has to say.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// How many changes asked for by the API may wait.
const BACKLOG: usize = 64;

/// A service that has all it needs its privileges for.
pub struct Prepared {
    lock: Lock,
    ebpf: Ebpf,
    api: net::UnixListener,
    metrics: Option<std::net::TcpListener>,
}

/// Does all that takes privileges, and gives these up. To be called while the process has one thread.
///
/// # Errors
/// What keeps it from starting: another instance, a missing capability, an interface that does not exist.
pub fn prepare(config: &Config) -> Result<Prepared> {
    privileges::require()?;
    descriptors::require("the service", descriptors::SERVICE)?;
    let lock = Lock::take(&config.pin_dir, lock::SERVICE)?;
    // One that has no threads of its own.
    let host = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async { Netlink::connect()?.dump().await })?;
    reconcile::require_interfaces(config, &host)?;
    let api = listen(&config.api_socket)?;
    let metrics = config.metrics.map(metrics::server::listen).transpose()?;
    let ebpf = object::load(config)?;
    privileges::drop_all_but_running().context("giving up privileges")?;
    Ok(Prepared {
        lock,
        ebpf,
        api,
        metrics,
    })
}

/// Runs the service until SIGTERM or SIGINT. `path` is read again on SIGHUP.
///
/// # Errors
/// When the kernel refuses something from the start.
pub async fn run(prepared: Prepared, config: Config, path: Option<PathBuf>) -> Result<()> {
    let Prepared {
        lock,
        ebpf,
        api,
        metrics,
    } = prepared;
    // From here on: what nobody listens for would end the service while it starts.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut netlink = Netlink::connect()?;
    warn_of_forwarding();
    let (asks, mut requests) = mpsc::channel(BACKLOG);
    let handle = Handle::new(asks, config.pin_dir.clone());
    let listener = UnixListener::from_std(api)?;
    let scraped = metrics.map(TcpListener::from_std).transpose()?;
    let mut state = State::new(config, ebpf)?;
    let mut docker = state.docker();
    if state.awaits_docker() {
        // Whether it speaks by then or not: what is in force stays so until it has.
        drop(time::timeout(FIRST_WORD, news(&mut docker)).await);
    }
    state.reconcile(&netlink).await?;

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut heal = time::interval(HEAL);
    heal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut firewall = time::interval(FIREWALL);
    firewall.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pins = time::interval(PINS);
    pins.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let collector = state.collector();
    let metrics = scraped.map(|port| tokio::spawn(metrics::server::serve(port, handle.clone())));
    let server = crate::api::server::serve(listener, handle);
    tokio::pin!(server);
    info!("the datapath is active");
    systemd::ready();
    let mut watchdog = Watchdog::new();
    let mut settled = None;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                systemd::reloading();
                state.reload(path.as_deref());
                docker = state.docker();
                collector.set_period(state.config().conntrack.gc_interval);
                retry(state.reconcile(&netlink).await);
                systemd::ready();
            }
            Some(()) = netlink.changed.recv() => {
                retry(state.forget_ways());
                settled.get_or_insert_with(|| Instant::now() + DEBOUNCE);
            }
            // Docker's news do not wait for the network to settle.
            () = passed(settled) => {
                settled = None;
                retry(state.reconcile(&netlink).await);
            }
            () = news(&mut docker) => retry(state.reconcile(&netlink).await),
            _ = firewall.tick() => retry(state.watch_firewall()),
            _ = pins.tick() => retry(state.watch_pins()),
            () = watchdog.alive() => {}
            _ = heal.tick() => {
                retry(state.heal());
                retry(make_ours(&state.config().api_socket));
                retry(state.reconcile(&netlink).await);
            }
            Some(request) = requests.recv() => state.answer(request),
            ended = &mut server => {
                ended.context("the API's socket")?;
                break;
            }
        }
    }
    systemd::stopping();
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    info!("the service ends; the datapath goes on without it");
    drop(fs::remove_file(&state.config().api_socket));
    drop(lock);
    Ok(())
}

/// Waits for news of Docker's; for ever where it is not followed.
async fn news(docker: &mut Option<watch::Receiver<View>>) {
    if let Some(view) = docker
        && view.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Waits until then; for ever if there is no such moment.
async fn passed(moment: Option<Instant>) {
    match moment {
        Some(moment) => time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// A failed reconciliation is tried again by the timer.
fn retry(result: Result<()>) {
    if let Err(error) = result {
        error!("not everything could be brought into force, trying again: {error:#}");
    }
}

fn warn_of_forwarding() {
    let path = "/proc/sys/net/ipv4/ip_forward";
    if fs::read_to_string(path).is_ok_and(|value| value.trim() == "0") {
        warn!(
            "net.ipv4.ip_forward is 0: this host forwards nothing; set it with `sysctl -w net.ipv4.ip_forward=1`"
        );
    }
}

/// The API's socket, for root and its group. What a former service left there is replaced; nothing else is.
fn listen(path: &Path) -> Result<net::UnixListener> {
    let at = || format!("api_socket: {}", path.display());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(at)?;
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(at),
        Ok(data) if !data.file_type().is_socket() => {
            bail!(
                "{}: there is a file that is no socket; remove it, or name another place",
                at()
            );
        }
        Ok(_) if net::UnixStream::connect(path).is_ok() => {
            bail!(
                "{}: another service answers there; stop it, or name another place",
                at()
            );
        }
        Ok(_) => fs::remove_file(path).with_context(at)?,
    }
    let listener = net::UnixListener::bind(path).with_context(at)?;
    listener.set_nonblocking(true).with_context(at)?;
    make_ours(path)?;
    Ok(listener)
}

/// For root and its group: whoever may write to the socket may publish ports.
fn make_ours(socket: &Path) -> Result<()> {
    const MODE: u32 = 0o660;
    let at = || format!("api_socket: {}", socket.display());
    let found = fs::symlink_metadata(socket)
        .with_context(|| format!("{}: no command reaches this service; start it anew", at()))?
        .permissions();
    if found.mode() & 0o7777 != MODE {
        fs::set_permissions(socket, fs::Permissions::from_mode(MODE)).with_context(at)?;
    }
    Ok(())
}
