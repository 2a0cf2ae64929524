//! Fragments: the first carries the ports and leaves a note; the others follow it.

use datapath_common::{
    family::{Address as _, Family},
    fragment::{FragmentKey, FragmentNote, LIFETIME},
    proto,
    reason::Reason,
    tuple::{Direction, Endpoints},
};

use super::{rewrite, wait};
use crate::{
    guard,
    maps::{self, Maps},
    packet::Buffered,
    parse::{Headers, is_extension},
};

/// After a first fragment was looked up: leaves the note. Nothing for whole packets.
#[inline(always)]
pub fn remember<F: Maps>(headers: &Headers<F>, direction: Direction, to: &Endpoints<F>, now: u64) {
    if headers.fragmented {
        leave_note(headers, direction, to, 0, now);
    }
}

/// After a first fragment was found to be none of ours: the others need not wait for it.
#[inline(always)]
pub fn leave_alone<F: Maps>(
    headers: &Headers<F>,
    direction: Direction,
    reason: Reason,
    now: u64,
) -> Reason {
    if headers.fragmented && matches!(reason, Reason::NotOurs | Reason::ToHost) {
        let flags = FragmentNote::<F>::LEFT_ALONE;
        leave_note(headers, direction, &headers.endpoints, flags, now);
    }
    reason
}

#[inline(never)]
fn leave_note<F: Maps>(
    headers: &Headers<F>,
    direction: Direction,
    to: &Endpoints<F>,
    flags: u64,
    now: u64,
) {
    let note = FragmentNote {
        src: to.src,
        dst: to.dst,
        deadline: now + LIFETIME,
        flags,
    };
    // Without room the later fragments find no note, and are counted.
    let _ = F::fragments().insert(key(headers, direction), note, 0);
}

/// A later fragment takes the addresses that the first took, which it leaves in `to`.
#[inline(never)]
pub fn follow<P: Buffered, F: Maps>(
    packet: &mut P,
    headers: &Headers<F>,
    to: &mut Endpoints<F>,
    direction: Direction,
    now: u64,
) -> Result<(), Reason> {
    let since = packet.waits_since();
    match note(headers, direction, now) {
        Some(note) if note.flags & FragmentNote::<F>::LEFT_ALONE != 0 => Err(Reason::NotOurs),
        Some(note) => {
            *to = Endpoints {
                src: note.src,
                dst: note.dst,
                sport: 0,
                dport: 0,
            };
            rewrite::addresses::<P, F>(packet, headers.l3, &headers.endpoints, to)?;
            Ok(())
        }
        None => Err(without_note(packet, headers, direction, since, now)),
    }
}

/// A later fragment from an endpoint to somebody outside, at the bridge: here it can still wait for its first to
/// leave by the uplink.
#[inline(never)]
pub fn outward<P: Buffered, F: Maps>(packet: &mut P, headers: &Headers<F>, now: u64) -> Reason {
    let since = packet.waits_since();
    let (src, dst) = (&headers.endpoints.src, &headers.endpoints.dst);
    let leaves = dst.is_unicast()
        && maps::network::<F>(src).is_some()
        && maps::network::<F>(dst).is_none()
        && has_ports(headers);
    if leaves
        && note(headers, Direction::FromEndpoint, now).is_none()
        && wait::again(packet, since, now)
    {
        return Reason::FragmentWaits;
    }
    Reason::NotOurs
}

/// To an address of the host it may be a datagram for the host itself, which the kernel puts together; from an
/// endpoint it may not leave as it is.
#[inline(always)]
fn without_note<P: Buffered, F: Maps>(
    packet: &mut P,
    headers: &Headers<F>,
    direction: Direction,
    since: Option<u8>,
    now: u64,
) -> Reason {
    let dst = &headers.endpoints.dst;
    if maps::local::<F>(dst).is_some() {
        return match has_ports(headers) {
            true if wait::again(packet, since, now) => Reason::FragmentWaits,
            true => Reason::FragmentAlone,
            false => Reason::NotOurs,
        };
    }
    match direction {
        Direction::ToEndpoint => guard::untracked_arriving(headers, Reason::NotOurs),
        Direction::FromEndpoint => Reason::FragmentWithoutFirst,
    }
}

/// Whether the datagram's first fragment leaves a note, as far as a later one says: extension headers may stand before
/// what has ports (RFC 8200, 4.1).
#[inline(always)]
fn has_ports<F: Family>(headers: &Headers<F>) -> bool {
    let protocol = headers.protocol;
    [proto::TCP, proto::UDP, F::ICMP].contains(&protocol)
        || F::VERSION == 6 && is_extension(protocol)
}

#[inline(always)]
fn note<F: Maps>(headers: &Headers<F>, direction: Direction, now: u64) -> Option<FragmentNote<F>> {
    // SAFETY: copied at once.
    let note = unsafe { F::fragments().get(key(headers, direction)) }.copied();
    note.filter(|note| note.deadline > now)
}

#[inline(always)]
fn key<F: Maps>(headers: &Headers<F>, direction: Direction) -> FragmentKey<F> {
    let from = &headers.endpoints;
    // What follows is not said alike by all fragments of IPv6 (RFC 8200, 4.5).
    let protocol = match F::VERSION {
        4 => headers.protocol,
        _ => 0,
    };
    FragmentKey::new(from.src, from.dst, headers.fragment_id, protocol, direction)
}
