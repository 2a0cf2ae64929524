//! Garbage collection from time to time, on a thread of its own: the service answers meanwhile.

use std::time::Duration;

use tokio::{sync::watch, task, time};
use tracing::{debug, error};

use crate::kernel::{
    collect::{Collected, collect},
    tables::Tables,
};

/// How often garbage is collected, until this is dropped.
pub(super) struct Collector(watch::Sender<Duration>);

impl Collector {
    pub(super) fn start(tables: Tables, period: Duration) -> Self {
        let (sender, receiver) = watch::channel(period);
        drop(task::spawn(run(tables, receiver)));
        Self(sender)
    }

    pub(super) fn set_period(&self, period: Duration) {
        self.0.send_replace(period);
    }
}

async fn run(tables: Tables, mut period: watch::Receiver<Duration>) {
    loop {
        let wait = *period.borrow_and_update();
        tokio::select! {
            () = time::sleep(wait) => {}
            changed = period.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        }
        let tables = tables.clone();
        match task::spawn_blocking(move || collect(&tables)).await {
            Ok(Ok(collected)) if collected == Collected::default() => {}
            Ok(Ok(collected)) => debug!(?collected, "expired entries were taken out"),
            Ok(Err(error)) => error!("garbage collection: {error:#}"),
            Err(_) => return,
        }
    }
}
