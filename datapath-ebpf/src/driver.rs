//! Packets from outside at the driver's level, before the kernel has made a socket buffer for them: what belongs to a
//! known flow goes straight into its endpoint, what policy refuses ends here, and everything else goes on to the
//! stack untouched and uncounted, where `uplink_ingress` does the whole work.
//!
//! So nothing is ever done twice, no mark has to be carried from here to there, and leaving this program out changes
//! nothing but the cost.

use datapath_common::{
    family::Family,
    proto,
    reason::{Outcome, Reason},
    tuple::Direction,
};

use crate::{
    bpf,
    fast::{self, Fast},
    flow, forward, guard,
    maps::{self, Maps, Work},
    nat::{own, publish, rewrite},
    packet::{Packet, xdp::Xdp},
    parse::{Headers, Kind, Parse, parse, plain::plain, pseudo_header},
};

/// The fast path, for datagrams alone as in [`into_endpoint`].
#[inline(never)]
pub fn hurry<F: Fast>(packet: &mut Xdp) -> Option<Reason> {
    guard::frame(packet).ok()?;
    let headers = plain::<Xdp, F>(packet, Direction::ToEndpoint)?;
    if headers.tuple.protocol != proto::UDP {
        return None;
    }
    let unfinished = pseudo_header(&headers.tuple.endpoints(), proto::UDP, headers.payload);
    fast::pass(packet, &headers, Direction::ToEndpoint, |packet, flow| {
        headers.udp_checksum != unfinished && packet.leave_by(flow.hop.uplink)
    })
}

/// What became of the packet, unless it is the stack's.
#[inline(never)]
pub fn meet<F: Maps + Parse>(packet: &mut Xdp) -> Option<Reason> {
    guard::frame(packet).ok()?;
    let work = F::work()?;
    // A train of segments, which a generic program may meet, looks malformed here: that is judged later.
    parse::<Xdp, F>(packet, &mut work.headers).ok()?;
    let whole = matches!(work.headers.kind, Kind::Tcp | Kind::Udp | Kind::Query);
    if !whole || work.headers.fragmented {
        return None;
    }
    let now = bpf::now();
    match flow::established(&work.headers, Direction::ToEndpoint, now) {
        flow::Known::Established(flow) => {
            work.to = flow.to;
            into_endpoint(packet, work, flow, now)
        }
        flow::Known::Otherwise => None,
        flow::Known::Not => refusal(packet, &work.headers),
    }
}

/// Datagrams of known flows are sent into their endpoint. TCP is not: its segments are joined to trains after this,
/// and a train costs the stack less than each of its segments would cost here.
#[inline(always)]
fn into_endpoint<F: Maps>(
    packet: &mut Xdp,
    work: &mut Work<F>,
    flow: flow::Established<F>,
    now: u64,
) -> Option<Reason> {
    let headers = &work.headers;
    let datagram = matches!(headers.kind, Kind::Udp | Kind::Query);
    if !datagram || F::is_foreign(&work.to.dst) || !forward::is_allowed::<F>() {
        return None;
    }
    let endpoint = maps::endpoint::<F>(&work.to.dst)?;
    if !forward::is_plain(headers) || is_unfinished(packet, headers) {
        return None;
    }
    let mtu = forward::may_go_on(packet, headers, endpoint.port).ok()??;
    if !packet.leave_by(endpoint.port) {
        return None;
    }
    flow.follow(headers, Direction::ToEndpoint, now);
    forward::note_endpoint(&mut work.hop, endpoint, mtu, now);
    flow::keep_hop(&work.headers, Direction::ToEndpoint, &work.hop);
    let sent = rewrite::apply(packet, headers, &work.to)
        .and_then(|()| forward::one_hop_less(packet, headers))
        .and_then(|()| packet.write(0, &forward::in_words(endpoint.frame())));
    Some(sent.err().unwrap_or(Reason::Flow))
}

/// Why a packet of no flow may go no further. What it may open is opened by the stack's program.
#[inline(always)]
fn refusal<F: Maps>(packet: &Xdp, headers: &Headers<F>) -> Option<Reason> {
    let refused = guard::arriving(headers)
        .and_then(|()| publish::asked(headers).map(drop))
        .err()?;
    let refused = own::or_connected(packet, headers, refused);
    (refused.outcome() == Outcome::Drop).then_some(refused)
}

/// Whether the checksum is still to be filled in (`CHECKSUM_PARTIAL`), as it is in packets that a neighbour on the
/// same machine made: the field holds the sum of the pseudo-header alone then (net/ipv4/udp.c, `udp4_hwcsum`), and
/// only the socket buffer knows. One finished checksum in 65,535 looks alike, and goes by the stack too.
#[inline(always)]
fn is_unfinished<F: Family>(packet: &Xdp, headers: &Headers<F>) -> bool {
    if headers.kind != Kind::Udp {
        return false;
    }
    packet
        .read::<u16>(headers.l4 + 6)
        .map_or(true, |field| field == headers.pseudo_header())
}
