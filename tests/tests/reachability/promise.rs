//! What Docker promises, from its documentation and not from its rules: which cells have to be open, and which closed.

use super::{
    probe::{Answer, Cell},
    targets::{Kind, Target},
    topology::{Network, Source},
};

/// What a cell has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    Open,
    Closed,
    /// Docker's proxy carries it, in both protocols; here it may be had or not.
    Optional,
}

/// What Docker promises of a cell.
pub(crate) fn promised(cell: &Cell) -> Promise {
    let Target {
        kind,
        addr,
        network,
        ..
    } = cell.target;
    let source = cell.source;
    let loopback = addr.ip().is_loopback();
    let open = match kind {
        Kind::Unpublished => false,
        Kind::Direct => match source {
            // The host routes to its own containers, and every one is itself.
            Source::Host | Source::Itself => true,
            Source::Same => network != Network::Apart,
            Source::Internal => network == Network::Inner,
            Source::Lan | Source::Second | Source::Far | Source::Other => false,
        },
        // What listens on loopback is the host's alone, and an internal network reaches nobody.
        Kind::Published | Kind::Crossing => match source {
            Source::Host => true,
            Source::Internal => false,
            Source::Lan | Source::Second | Source::Far | Source::Other => !loopback,
            // The default bridge of the lab has no IPv6, so its containers dial none.
            Source::Same | Source::Itself => !loopback && kind == Kind::Published,
        },
    };
    match (open, kind, source) {
        (true, Kind::Crossing, source) if source != Source::Host => Promise::Optional,
        (true, ..) => Promise::Open,
        (false, ..) => Promise::Closed,
    }
}

impl Promise {
    pub(crate) fn is_open(self) -> bool {
        self != Self::Closed
    }

    /// What is wrong with what was found.
    pub(crate) fn complaint(self, cell: &Cell) -> Option<String> {
        let wrong = |answer: &Answer| match (self, answer.as_deref()) {
            (Self::Open, None) => Some("closed, but has to be open".to_owned()),
            (Self::Closed, Some(name)) => {
                Some(format!("OPEN, but has to be closed: {name} answered"))
            }
            (Self::Open | Self::Optional, Some(name)) if name != cell.target.container => {
                Some(format!("answered by {name}"))
            }
            _ => None,
        };
        let faults = [("TCP", &cell.tcp), ("UDP", &cell.udp)];
        let faults: Vec<_> = faults
            .into_iter()
            .filter_map(|(protocol, answer)| Some(format!("{protocol} {}", wrong(answer)?)))
            .collect();
        let Cell { source, target, .. } = cell;
        (!faults.is_empty()).then(|| {
            format!(
                "{source:?} to {} ({}): {}",
                target.addr,
                target.says,
                faults.join("; ")
            )
        })
    }
}
