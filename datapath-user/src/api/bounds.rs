//! What one request may ask for: however few bytes name many ports, what they take of the service's memory is bounded.

use std::{fmt, marker::PhantomData, sync::Arc};

use datapath_common::binding::MAX_BINDINGS;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, SeqAccess, Visitor},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::types::{Refusal, RefusalKind};
use crate::config::ports::AddrPorts;

/// Ports of one request: as many as can be published, of both families together.
const PORTS: usize = 2 * MAX_BINDINGS as usize;
/// Ports that are nothing special. Of the requests about more, one is worked on at a time.
const FEW: usize = 1024;

/// A list of at most [`PORTS`] entries: of one that is longer no more is read.
#[derive(Debug)]
pub(super) struct Entries<T>(pub(super) Vec<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Counted(PhantomData))
    }
}

struct Counted<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for Counted<T> {
    type Value = Entries<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = from.next_element()? {
            if entries.len() == PORTS {
                return Err(Error::custom(too_many()));
            }
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

fn too_many() -> String {
    format!("more than {PORTS} ports in one request; there is room for no more")
}

/// The turn of requests about many ports.
#[derive(Clone, Debug)]
pub(super) struct Turn(Arc<Semaphore>);

impl Turn {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Waits for the turn of a request about these places, if it is about many ports. It lasts until the permit is
    /// dropped.
    ///
    /// # Errors
    /// Names the entry with which there are too many.
    pub(super) async fn of(
        &self,
        places: impl IntoIterator<Item = AddrPorts>,
    ) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        let mut ports = 0;
        for (index, place) in places.into_iter().enumerate() {
            ports += place.ports.len() as usize;
            if ports > PORTS {
                let refusal = Refusal::new(RefusalKind::Invalid, too_many());
                return Err(refusal.about(format!("[{index}].listen"), place.to_string()));
            }
        }
        if ports <= FEW {
            return Ok(None);
        }
        Ok(self.0.clone().acquire_owned().await.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_there_is_room_for() {
        let list = |length: usize| format!("[{}7]", "7,".repeat(length - 1));
        let whole: Entries<u8> = serde_json::from_str(&list(PORTS)).unwrap();
        assert_eq!(whole.0.len(), PORTS);
        let error = serde_json::from_str::<Entries<u8>>(&list(PORTS + 1)).unwrap_err();
        assert!(
            error.to_string().contains("more than 65536 ports"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn many_ports_wait_for_each_other_and_too_many_are_refused() {
        let turn = Turn::new();
        let ports = |text: &str| -> AddrPorts { text.parse().unwrap() };
        let held = turn.of([ports("0.0.0.0:1-60000")]).await.unwrap();
        assert!(held.is_some());
        assert!(turn.of([ports("0.0.0.0:1-1024")]).await.unwrap().is_none());
        let next = turn.of([ports("[::]:1-60000")]);
        tokio::pin!(next);
        assert!(futures::poll!(&mut next).is_pending());
        drop(held);
        assert!(next.await.unwrap().is_some());
        let refusal = turn
            .of([ports("0.0.0.0:1-60000"), ports("[::]:1-60000")])
            .await;
        assert_eq!(refusal.unwrap_err().field, "[1].listen");
    }
}
