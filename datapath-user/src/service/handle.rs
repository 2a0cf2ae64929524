//! What the API may ask of the service.

use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot};

use crate::{
    api::{
        door,
        types::{Refusal, RefusalKind, Status},
    },
    model::{AllowList, Listen, Publication},
};

/// A question or a change, and where its answer goes.
pub(super) enum Request {
    Publish(Vec<Publication>, oneshot::Sender<Result<usize, Refusal>>),
    Unpublish(Vec<Listen>, oneshot::Sender<Result<usize, Refusal>>),
    Allow(
        Vec<(Listen, Option<AllowList>)>,
        oneshot::Sender<Result<usize, Refusal>>,
    ),
    Status(oneshot::Sender<Status>),
}

/// The way to the running service.
#[derive(Clone, Debug)]
pub struct Handle {
    asks: mpsc::Sender<Request>,
    pin_dir: PathBuf,
}

impl Handle {
    pub(super) fn new(asks: mpsc::Sender<Request>, pin_dir: PathBuf) -> Self {
        Self { asks, pin_dir }
    }

    /// Where the maps are pinned.
    #[must_use]
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// Publishes all of them, or none.
    ///
    /// # Errors
    /// Says which one is refused, and why.
    pub async fn publish(&self, publications: Vec<Publication>) -> Result<usize, Refusal> {
        self.ask(|answer| Request::Publish(publications, answer))
            .await?
    }

    /// Withdraws all of them, or none.
    ///
    /// # Errors
    /// Says which one is refused, and why.
    pub async fn unpublish(&self, listens: Vec<Listen>) -> Result<usize, Refusal> {
        self.ask(|answer| Request::Unpublish(listens, answer))
            .await?
    }

    /// Gives all of them the lists beside them, or none.
    ///
    /// # Errors
    /// Says which one is refused, and why.
    pub async fn allow(&self, lists: Vec<(Listen, Option<AllowList>)>) -> Result<usize, Refusal> {
        self.ask(|answer| Request::Allow(lists, answer)).await?
    }

    /// How the service is.
    ///
    /// # Errors
    /// When it is ending.
    pub async fn status(&self) -> Result<Status, Refusal> {
        self.ask(Request::Status).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Refusal> {
        let ending = || {
            Refusal::new(
                RefusalKind::Unavailable,
                "the service is ending; start it again",
            )
        };
        let (answer, answered) = oneshot::channel();
        door::answer(async {
            let asked = self.asks.send(request(answer)).await;
            asked.map_err(|_| ending())?;
            answered.await.map_err(|_| ending())
        })
        .await
    }
}
