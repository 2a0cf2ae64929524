//! `datapath detach`: the service ends, and everything goes out of the kernel.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};

use super::output;
use crate::{
    config::Config,
    kernel::{detach, tables::Tables},
    lock::{Lock, MONITOR, SERVICE},
    reconcile::isolation,
};

/// How long a service may take to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const POLL: Duration = Duration::from_millis(20);

pub(super) async fn exec(config: &Config) -> Result<()> {
    let tables = Tables::new(&config.pin_dir);
    if tables.exist() {
        detach::require_netns(&config.pin_dir, &tables)?;
    }
    // Held to the end: no service starts meanwhile.
    let (lock, ended) = end_service(config).await?;
    if tables.exist() {
        isolation::release(&tables).await?;
    }
    let mut lines: Vec<_> = ended
        .map(|pid| format!("ended the service, process {pid}"))
        .into_iter()
        .collect();
    let removed = detach::detach(&config.pin_dir)?;
    lines.extend(removed.iter().map(|pin| format!("removed {pin}")));
    // What a monitor that was killed left there goes with it.
    drop(Lock::try_take(&config.pin_dir, MONITOR));
    drop(lock);
    // The unit's own directory; any other is whoever's who named it.
    drop(fs::remove_dir("/run/datapath"));
    if lines.is_empty() {
        let nothing = format!("nothing is pinned at {}", config.pin_dir.display());
        return output::line(&nothing);
    }
    output::line(&lines.join("\n"))
}

/// Ends the service that works with these pins, if there is one: it would put everything back.
async fn end_service(config: &Config) -> Result<(Lock, Option<i32>)> {
    let deadline = Instant::now() + PATIENCE;
    let mut told = None;
    loop {
        let holder = match Lock::try_take(&config.pin_dir, SERVICE)? {
            Ok(lock) => return Ok((lock, told)),
            Err(holder) => holder,
        };
        let pid = holder.confirmed(&config.pin_dir, SERVICE);
        if let Some(pid) = pid.filter(|_| told.is_none()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM)
                .with_context(|| format!("ending the service, process {pid}"))?;
            told = Some(pid);
        }
        if Instant::now() > deadline {
            bail!(
                "pin_dir: {}: the service that works with it does not end (process {}); stop it first",
                config.pin_dir.display(),
                pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()),
            );
        }
        sleep(POLL).await;
    }
}
