//! The fast path: a plain packet of an established flow, whose next hop the flow has kept, costs one lookup, one
//! rewrite and one redirect.
//!
//! It decides nothing by itself. What it may do was found out by the whole body ([`crate::pipeline`]) for another
//! packet of the flow, [`HOP_LIFETIME`](datapath_common::way::HOP_LIFETIME) ago at the most, and holds while the
//! generations are those of then: of the binding, of the host's address, and of all that is known of the way. A packet
//! that is in any way out of the ordinary is left to the whole body as it came.

use datapath_common::{
    checksum,
    conntrack::{Flow, tcp::State},
    family::{Address as _, V4, V6},
    proto,
    reason::Reason,
    settings::slots,
    tuple::{Direction, Endpoints, Tuple},
    way::Mac,
};

use crate::{
    bpf, flow, forward, guard,
    maps::{self, Maps},
    nat::rewrite,
    packet::{Buffered, Covers, Packet},
    parse::{
        ETHERNET,
        plain::{Headers, Plain, l4, plain},
    },
};

/// What differs between the families.
pub trait Fast: Maps + Plain {
    /// What the change of both addresses adds to a sum that covers them.
    ///
    /// Verifier: IPv6's takes too much of the stack to be inlined.
    fn change(from: &Tuple<Self>, to: &Endpoints<Self>) -> u32;
}

impl Fast for V4 {
    #[inline(always)]
    fn change(from: &Tuple<Self>, to: &Endpoints<Self>) -> u32 {
        change(from, to)
    }
}

impl Fast for V6 {
    #[inline(never)]
    fn change(from: &Tuple<Self>, to: &Endpoints<Self>) -> u32 {
        change(from, to)
    }
}

#[inline(always)]
fn change<F: Maps>(from: &Tuple<F>, to: &Endpoints<F>) -> u32 {
    checksum::add(from.src.difference(&to.src), from.dst.difference(&to.dst))
}

/// A packet from outside, into its endpoint; or one that can only be the host's own. `None`: the whole body has it,
/// untouched.
#[inline(never)]
pub fn inward<P: Buffered, F: Fast>(packet: &mut P) -> Option<Reason> {
    guard::frame(packet).ok()?;
    let headers = plain::<P, F>(packet, Direction::ToEndpoint)?;
    if guard::is_for_host_alone(&headers.tuple) {
        return Some(Reason::NotOurs);
    }
    pass(packet, &headers, Direction::ToEndpoint, |packet, flow| {
        packet.redirect_peer(flow.hop.uplink).is_ok()
    })
}

/// A packet from an endpoint, out of the uplink, or into the endpoint at the other end of a hairpin. `None`: likewise.
#[inline(never)]
pub fn outward<P: Buffered, F: Fast>(packet: &mut P) -> Option<Reason> {
    let headers = plain::<P, F>(packet, Direction::FromEndpoint)?;
    pass(packet, &headers, Direction::FromEndpoint, |packet, flow| {
        let sent = if flow.has(Flow::<F>::HAIRPIN) {
            packet.redirect_peer(flow.hop.uplink)
        } else {
            packet.redirect(flow.hop.uplink)
        };
        sent.is_ok()
    })
}

/// `send` names the interface that the packet is to leave by once the program is done, which the flow has kept, or says
/// that it cannot.
#[inline(always)]
pub fn pass<P: Packet, F: Fast>(
    packet: &mut P,
    headers: &Headers<F>,
    direction: Direction,
    send: impl FnOnce(&mut P, &Flow<F>) -> bool,
) -> Option<Reason> {
    let tcp = headers.tuple.protocol == proto::TCP;
    if headers.hops <= 1
        || headers.tcp_flags & proto::tcp::CONTROL != 0
        || !forward::is_allowed::<F>()
    {
        return None;
    }
    let now = bpf::now();
    let entry = F::flows().get_ptr_mut(&headers.tuple)?;
    // SAFETY: as in `flow::find`.
    let flow = unsafe { &mut *entry };
    if !holds(packet, flow, direction, now) || (tcp && flow.state != State::Established as u8) {
        return None;
    }
    let fits = packet.len() <= u32::from(flow.hop.mtu) + ETHERNET;
    if !fits && packet.fits(flow.hop.uplink).is_none() {
        return None;
    }
    if !send(packet, flow) {
        return None;
    }
    let bytes = F::HEADER + headers.payload;
    flow.packets += 1;
    flow.bytes += u64::from(bytes);
    flow.last_seen = now;
    if tcp && headers.tcp_flags & proto::tcp::ACK != 0 {
        flow.acknowledged = headers.acknowledgment;
    }
    flow::count(flow.binding, u64::from(bytes), 0);
    let done = rewrite(packet, headers, flow);
    Some(done.err().unwrap_or(Reason::Flow))
}

/// Whether what the flow has kept holds for this packet.
#[inline(always)]
fn holds<P: Packet, F: Maps>(packet: &P, flow: &Flow<F>, direction: Direction, now: u64) -> bool {
    let hop = &flow.hop;
    let from_it = direction == Direction::ToEndpoint
        || (hop.port == packet.ifindex()
            && packet
                .head(size_of::<Mac>())
                .is_some_and(|head| head.get::<[u16; 3]>(0) == words(hop.gateway)));
    from_it
        && hop.is_fresh(now)
        && hop.generation == maps::generation(slots::WAYS)
        && flow::is_current(flow)
}

/// An Ethernet address in words.
#[inline(always)]
fn words([a, b, c, d, e, f]: Mac) -> [u16; 3] {
    [[a, b], [c, d], [e, f]].map(u16::from_ne_bytes)
}

/// Makes the packet carry what the flow's packets become, one hop less, and the next link's addresses, as
/// [`rewrite::apply`] and [`forward::one_hop_less`] do one after the other.
#[inline(always)]
fn rewrite<P: Packet, F: Fast>(
    packet: &mut P,
    headers: &Headers<F>,
    flow: &Flow<F>,
) -> Result<(), Reason> {
    let (from, to) = (&headers.tuple, &flow.to);
    let l4 = l4::<F>();
    let addresses = F::change(from, to);
    let network = checksum::add(addresses, forward::counted_down::<F>(headers.hops));
    let ports = [
        rewrite::in_header(from.sport, from.dport),
        rewrite::in_header(to.sport, to.dport),
    ];
    let head = packet.head(l4 as usize + 4).ok_or(Reason::RewriteFailed)?;
    head.put(0, &forward::in_words(flow.hop.frame));
    head.put(ETHERNET + F::HOP_LIMIT, &headers.hops.wrapping_sub(1));
    if F::HEADER_CHECKSUM {
        let offset = ETHERNET + rewrite::HEADER_CHECKSUM;
        head.put(offset, &checksum::mend(head.get(offset), network));
    }
    head.put(ETHERNET + F::ADDRESSES, &to.src);
    let behind = size_of::<F::Addr>() as u32;
    head.put(ETHERNET + F::ADDRESSES + behind, &to.dst);
    head.put(l4, &[to.sport.to_be(), to.dport.to_be()]);
    if !F::HEADER_CHECKSUM {
        packet.add_to_sum(network);
    }
    let difference = checksum::difference(&[ports[0]], &[ports[1]]);
    let udp = from.protocol == proto::UDP;
    if udp && headers.udp_checksum == 0 {
        packet.add_to_sum(difference);
        return Ok(());
    }
    let offset = l4 + if udp { 6 } else { 16 };
    packet.mend_checksum(offset, addresses, Covers::PseudoHeader, udp)?;
    if ports[0] != ports[1] {
        packet.mend_checksum(offset, difference, Covers::Payload, udp)?;
    }
    Ok(())
}
