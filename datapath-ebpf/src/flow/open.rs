//! A flow opened: the answers' tuple claimed, then both entries in place, or neither.

use datapath_common::{
    conntrack::{Flow, tcp::State, timeouts::SECOND},
    family::Family,
    nat64,
    ports::{MAX_TRIES, PortRange},
    proto,
    reason::Reason,
    tuple::{Direction, Endpoints, Tuple},
};

use super::{find, track};
use crate::{
    bpf::{self, NOEXIST},
    maps::{Maps, SETTINGS},
    nat::{mapping, own},
    parse::Headers,
};

/// Longer than it takes to put both entries of a flow in place, by a clock that goes in steps of up to 10 ms.
const OPENING: u64 = SECOND / 50;

/// What is to be opened.
pub struct Opening<F: Family> {
    /// The first packet's key.
    pub tuple: Tuple<F>,
    /// What its addresses and ports become. The source port is a wish: another is taken where an answer's
    /// tuple is not free.
    pub to: Endpoints<F>,
    /// Which way the first packet goes.
    pub direction: Direction,
    /// Flags of the entry, without those that the state sets.
    pub flags: u8,
    /// The binding it came by, with its generation.
    pub binding: (u32, u32),
    /// The host's address it uses, with its generation.
    pub address: (u32, u32),
    /// Bytes of the first packet.
    pub bytes: u64,
    /// Now.
    pub now: u64,
    /// The port may not change: a mapping has claimed it.
    pub fixed: bool,
    /// Of a flow from outside that shows the endpoint an address of the host: see [`Flow::way_out`]. Else 0.
    pub way_out: u32,
    /// The answers' key, as far as the search has come.
    pub answers: Tuple<F>,
}

/// Opens it. `opening.to` is then what the packet becomes; `flow` is room to build the entries in.
///
/// `usable` says whether a source port may be taken at all (nobody else's, whatever the flow tables say).
#[inline(always)]
pub fn open<F: Maps, U: Fn(u16) -> bool>(
    opening: &mut Opening<F>,
    flow: &mut Flow<F>,
    usable: U,
) -> Result<(), Reason> {
    let settings = SETTINGS.get(0).ok_or(Reason::TableFull)?;
    *flow = Flow::NONE;
    flow.protocol = opening.tuple.protocol;
    flow.id = opening.now ^ (u64::from(bpf::random()) << 32);
    flow.created = opening.now;
    flow.last_seen = opening.now;
    (flow.binding, flow.binding_generation) = opening.binding;
    (flow.address, flow.address_generation) = opening.address;
    if opening.fixed && opening.flags & Flow::<F>::ROUTED == 0 {
        flow.mapping_due = mapping::next_push(settings, opening.now);
    }
    if opening.tuple.protocol == proto::TCP {
        flow.state = State::SynSent as u8;
    }
    let mut search = Search {
        tries: if opening.fixed { 1 } else { MAX_TRIES },
        ports: if opening.way_out != 0 {
            nat64::PORTS
        } else {
            settings.ports
        },
        own: opening.to.sport,
        random: bpf::random(),
        opening,
        flow,
        usable,
        end: Claim::Taken,
    };
    bpf::until(search.tries, &mut search, attempt::<F, U>);
    let otherwise = match search.end {
        Claim::Won => return Ok(()),
        Claim::Taken => Reason::PortsExhausted,
        Claim::Lost | Claim::Full => Reason::TableFull,
    };
    // Another CPU may have opened the same flow meanwhile: the packet is that one's, answered or not.
    let Search { opening, .. } = search;
    let (winner, _) = find::look(&opening.tuple).ok_or(otherwise)?;
    // SAFETY: valid while the program runs.
    opening.to = unsafe { (*winner).to };
    Ok(())
}

/// A search for a source port.
struct Search<'a, F: Family, U> {
    tries: u32,
    ports: PortRange,
    /// The port that is wished for.
    own: u16,
    random: u32,
    opening: &'a mut Opening<F>,
    flow: &'a mut Flow<F>,
    usable: U,
    end: Claim,
}

/// One attempt: the port that is wished for, then others. Says whether the search is over.
extern "C" fn attempt<F: Maps, U: Fn(u16) -> bool>(
    number: u64,
    search: &mut Search<'_, F, U>,
) -> i64 {
    if number > 0 {
        // The port may be taken by the very same flow, which another CPU has just opened.
        if find::look(&search.opening.tuple).is_some() {
            search.end = Claim::Lost;
            return 1;
        }
        let (ports, protocol) = (search.ports, search.opening.tuple.protocol);
        search.opening.to.sport =
            ports.in_place_of(search.own, protocol, search.random, number as u32);
    }
    if (search.usable)(search.opening.to.sport) {
        search.end = claim(search.opening, search.flow);
    }
    i64::from(search.end != Claim::Taken)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    Won,
    Taken,
    Lost,
    Full,
}

/// Puts both entries in place. The answers' first: it is the claim, and an atomic one.
#[inline(never)]
fn claim<F: Maps>(opening: &mut Opening<F>, flow: &mut Flow<F>) -> Claim {
    const EEXIST: i32 = -17;
    let direction = opening.direction;
    flow.flags = opening.flags | Flow::<F>::ORIGINAL;
    flow.to = opening.to;
    opening.answers = flow.partner(direction);
    let answers = &opening.answers;
    flow.flags = opening.flags;
    flow.to = opening.tuple.endpoints().reversed();
    flow.packets = 0;
    flow.bytes = 0;
    let mapping_due = flow.mapping_due;
    if opening.way_out != 0 {
        flow.mapping_due = opening.way_out;
    }
    if !is_free(answers, flow.partner_direction(direction), opening.now) {
        return Claim::Taken;
    }
    if direction == Direction::FromEndpoint && opening.flags == 0 {
        // Before any answer can come: see `maps::may_be_ours`. Others, routed or turned round, show no port of the
        // host's on an uplink.
        own::note(opening.to.sport);
    }
    match F::half().insert(answers, &*flow, NOEXIST) {
        Ok(()) => {}
        Err(EEXIST) => return Claim::Taken,
        Err(_) => return Claim::Full,
    }
    // A flow may have been promoted between the two looks: it is in the other tier then. And endpoints answer to the
    // host's own address in flows of either family's tables: whoever comes second sees the first.
    if F::flows().get_ptr(answers).is_some() || (to_host::<F>(opening) && F::has_twin(answers)) {
        let _ = F::half().remove(answers);
        return Claim::Taken;
    }
    flow.flags = opening.flags | Flow::<F>::ORIGINAL;
    flow.to = opening.to;
    flow.mapping_due = mapping_due;
    flow.packets = 1;
    flow.bytes = opening.bytes;
    match F::half().insert(&opening.tuple, &*flow, NOEXIST) {
        // Another CPU opened the same flow, and it is answered already.
        Ok(()) if F::flows().get_ptr(&opening.tuple).is_some() => {
            let _ = F::half().remove(&opening.tuple);
            let _ = F::half().remove(answers);
            Claim::Lost
        }
        Ok(()) => {
            track::count(flow.binding, opening.bytes, 1);
            Claim::Won
        }
        Err(EEXIST) => {
            let _ = F::half().remove(answers);
            Claim::Lost
        }
        Err(_) => {
            let _ = F::half().remove(answers);
            Claim::Full
        }
    }
}

/// Whether the answers go to an address of the host on a bridge.
#[inline(always)]
fn to_host<F: Family>(opening: &Opening<F>) -> bool {
    opening.flags & Flow::<F>::HAIRPIN != 0 || F::is_foreign(&opening.to.dst)
}

/// Whether a living flow has this key.
#[inline(never)]
pub fn is_taken<F: Maps>(key: &Tuple<F>, now: u64) -> bool {
    Direction::from_raw(key.direction).is_some_and(|direction| !is_free(key, direction, now))
}

/// Whether no living flow has this key. A dead one that still lies there is taken out.
#[inline(always)]
fn is_free<F: Maps>(key: &Tuple<F>, direction: Direction, now: u64) -> bool {
    let Some((found, tier)) = find::look(key) else {
        return true;
    };
    // SAFETY: valid while the program runs.
    let flow = unsafe { &*found };
    // Another CPU may be about to put the second entry in place, of a flow that is not over by then.
    let just_opened = now.saturating_sub(flow.created) < OPENING && find::is_current(flow);
    if just_opened || find::is_alive(flow, direction, tier, now) {
        return false;
    }
    find::retire(key, flow.partner(direction), flow.id);
    true
}

/// Whether the packet may open a flow: a first segment, a datagram, a request. Never an answer.
#[inline(always)]
pub fn may_open<F: Maps>(headers: &Headers<F>) -> bool {
    match headers.protocol {
        proto::TCP => datapath_common::conntrack::tcp::may_open(headers.tcp_flags),
        proto::UDP => true,
        _ => headers.icmp_type == F::ECHO_REQUEST,
    }
}
