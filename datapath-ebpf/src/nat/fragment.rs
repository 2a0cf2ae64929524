//! Fragments: the first carries the ports and leaves a note; the others follow it.

use datapath_common::{
    fragment::{FragmentKey, FragmentNote, LIFETIME},
    network::Network,
    reason::Reason,
    tuple::{Direction, Endpoints},
};

use super::rewrite;
use crate::{
    maps::{self, Maps},
    packet::Packet,
    parse::Headers,
};

/// After a first fragment was looked up: leaves the note. Nothing for whole packets.
#[inline(always)]
pub fn remember<F: Maps>(headers: &Headers<F>, direction: Direction, to: &Endpoints<F>, now: u64) {
    if headers.fragmented {
        leave_note(headers, direction, to, now);
    }
}

#[inline(never)]
fn leave_note<F: Maps>(headers: &Headers<F>, direction: Direction, to: &Endpoints<F>, now: u64) {
    let note = FragmentNote {
        src: to.src,
        dst: to.dst,
        deadline: now + LIFETIME,
        reserved: 0,
    };
    // Without room the later fragments find no note, and are counted.
    let _ = F::fragments().insert(key(headers, direction), note, 0);
}

/// A later fragment takes the addresses that the first took, which it leaves in `to`.
#[inline(never)]
pub fn follow<P: Packet, F: Maps>(
    packet: &mut P,
    headers: &Headers<F>,
    to: &mut Endpoints<F>,
    direction: Direction,
    now: u64,
) -> Result<(), Reason> {
    let from = &headers.endpoints;
    // SAFETY: copied at once.
    let note = unsafe { F::fragments().get(key(headers, direction)) }.copied();
    match note {
        Some(note) if note.deadline > now => {
            *to = Endpoints {
                src: note.src,
                dst: note.dst,
                sport: 0,
                dport: 0,
            };
            rewrite::addresses::<P, F>(packet, headers.l3, from, to)?;
            Ok(())
        }
        _ => Err(without_note(headers, direction)),
    }
}

/// From outside it may be a datagram for the host itself, which the kernel puts together; from an endpoint
/// it may not leave as it is.
#[inline(always)]
fn without_note<F: Maps>(headers: &Headers<F>, direction: Direction) -> Reason {
    match direction {
        Direction::ToEndpoint => match maps::network::<F>(&headers.endpoints.dst) {
            Some(network) if !network.has(Network::ROUTED) => Reason::Unpublished,
            _ => Reason::NotOurs,
        },
        Direction::FromEndpoint => Reason::FragmentWithoutFirst,
    }
}

#[inline(always)]
fn key<F: Maps>(headers: &Headers<F>, direction: Direction) -> FragmentKey<F> {
    let from = &headers.endpoints;
    FragmentKey::new(
        from.src,
        from.dst,
        headers.fragment_id,
        headers.protocol,
        direction,
    )
}
