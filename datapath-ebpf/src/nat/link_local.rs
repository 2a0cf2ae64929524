//! Clients that ask from a link-local address (a name of mDNS often leads there). What comes from one must not go to
//! another link (RFC 4291, 2.5.6), and an endpoint has no way back to it: it sees an address of the host instead, and a
//! port there that no other flow has towards it.
//!
//! The flow is one to a published port as any other. Its answers come to an address of the host, so they are found at
//! the bridge, and leave by the interface that the first packet came by.

use datapath_common::{
    conntrack::Flow,
    nat64::PORTS,
    reason::Reason,
    tuple::{Direction, Tuple},
};

use super::icmp_error;
use crate::{
    bpf, flow, forward, guard,
    maps::{self, Maps, Work},
    packet::reshape::Reshape,
    parse::Kind,
};

/// Whether a packet from outside comes from such a client, and leads to an endpoint of its own family.
#[inline(always)]
pub fn is_client<F: Maps>(work: &Work<F>) -> bool {
    guard::is_link_local::<F>(&work.headers.endpoints.src) && !F::is_foreign(&work.opening.to.dst)
}

/// Has a prepared flow show the uplink's address, and a port that only such flows take: below those that the host's own
/// processes dial from.
#[inline(never)]
pub fn take_address<F: Maps>(work: &mut Work<F>, uplink: u32) -> Result<(), Reason> {
    let opening = &mut work.opening;
    // SAFETY: only read, and the entry's memory outlives the program's run.
    let addresses = unsafe { F::uplinks().get(&uplink) }.ok_or(Reason::NoAddress)?;
    let source = addresses.source_for(&opening.to.dst);
    let source = source.ok_or(Reason::NoAddress)?;
    opening.to.src = source.addr;
    opening.to.sport = PORTS.candidate(bpf::random(), 0);
    opening.address = (source.slot, maps::generation(source.slot));
    opening.way_out = uplink;
    Ok(())
}

/// Whether a packet that was translated at the bridge goes to such a client.
#[inline(always)]
pub fn is_for_client<F: Maps>(work: &Work<F>) -> bool {
    guard::is_link_local::<F>(&work.to.dst)
}

/// Sends an answer, or an endpoint's ICMP error about what the client sent, on its way.
#[inline(never)]
pub fn answer<P: Reshape, F: Maps>(packet: &mut P, work: &Work<F>) -> Result<(), Reason> {
    let way_out = way_out(work).ok_or(Reason::NoFlow)?;
    forward::to_route(packet, &work.headers, way_out)
}

/// The interface that the flow's first packet came by. A later fragment does not say which flow it is of.
#[inline(always)]
fn way_out<F: Maps>(work: &Work<F>) -> Option<u32> {
    let headers = &work.headers;
    let flow = match headers.kind {
        Kind::LaterFragment => None,
        Kind::Error => icmp_error::about(&work.quoted, Direction::FromEndpoint),
        Kind::Tcp | Kind::Udp | Kind::Query => {
            let (ends, protocol) = (&headers.endpoints, headers.protocol);
            let key = Tuple::new(ends, protocol, Direction::FromEndpoint);
            flow::living(&key, bpf::now())
        }
    };
    flow.map(Flow::way_out)
}
