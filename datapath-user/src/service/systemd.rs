//! What systemd is told (sd_notify(3)): ready, reloading, alive, stopping.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{self, Interval, MissedTickBehavior};
use tracing::warn;

/// Says that the service is ready: at the start, and at the end of a reload.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Says that the configuration is being read again (`Type=notify-reload` asks for the time).
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!("systemd could not be told: {error}"),
    }
}

/// Says that the service ends.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// The watchdog: systemd restarts a service that falls silent. It is told from the loop that does the work, so
/// that a loop that hangs is one that falls silent.
pub(super) struct Watchdog(Option<Interval>);

impl Watchdog {
    /// As the unit asks for it (`WatchdogSec=`), if it does.
    pub(super) fn new() -> Self {
        Self(sd_notify::watchdog_enabled().map(|timeout| {
            let mut interval = time::interval((timeout / 3).max(Duration::from_millis(1)));
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    /// Waits until it is time, and says that the service is alive; waits for ever where nobody asks.
    pub(super) async fn alive(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
                notify(&[NotifyState::Watchdog]);
            }
            None => std::future::pending().await,
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("systemd could not be told: {error}");
    }
}
