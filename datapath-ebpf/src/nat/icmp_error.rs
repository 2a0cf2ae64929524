//! ICMP errors: they quote the packet that they are about, so outside and inside are translated alike.
//!
//! The quoted packet went the other way, after translation. Turned round it is an answer's tuple: the entry
//! that an answer finds says what the quoted packet was before. An error opens, ends and refreshes nothing
//! (RFC 5508, REQ-4 and REQ-5; RFC 5382, REQ-10).

use datapath_common::{
    checksum,
    conntrack::Flow,
    network::Network,
    proto,
    reason::Reason,
    tuple::{Direction, Endpoints, Tuple},
};

use super::{icmp_checksum, nat64::Across, rewrite};
use crate::{
    bpf, flow, guard,
    maps::{self, Maps, Work},
    packet::{Buffered, Covers, Packet, reshape::Reshape},
    parse::{Parse, Quoted},
};

/// An error that arrives at an uplink, about a packet that left by one.
#[inline(always)]
pub fn inward<P: Reshape, F: Across>(packet: &mut P, work: &mut Work<F>) -> Result<Reason, Reason> {
    let read = work.quoted.read(packet, &work.headers).is_ok();
    let flow = read.then(|| about(&work.quoted, Direction::ToEndpoint));
    let Some(flow) = flow.flatten() else {
        // It may be about a packet of the host's own, of whatever protocol; to an endpoint's address it is nobody's.
        let (src, dst) = (&work.headers.endpoints.src, &work.headers.endpoints.dst);
        let Some(network) = maps::network::<F>(dst) else {
            return Err(guard::untracked_arriving(&work.headers, Reason::NotOurs));
        };
        let may = guard::by_own_address(network, true).and_then(|()| guard::from_outside::<F>(src));
        return Err(match may {
            Ok(()) => Reason::Routed,
            Err(Reason::Unpublished) => Reason::IcmpErrorWithoutFlow,
            Err(refused) => refused,
        });
    };
    guard::from_outside::<F>(&work.headers.endpoints.src)?;
    icmp_checksum::check(packet, work)?;
    work.to = flow.to.reversed();
    if F::is_foreign(&flow.to.dst) {
        return Ok(F::error_to_endpoint(packet, work));
    }
    address(work, flow);
    translate(packet, work)?;
    Ok(Reason::IcmpError)
}

/// The addresses around an error from outside: of whoever says it, and of the endpoint. Who has only a link-local address
/// has none for another link (RFC 4291, 2.5.6): then whom the flow is with says it.
///
/// Verifier: a sub-program, so that what it keeps on the stack is its own.
#[inline(never)]
fn address<F: Maps>(work: &mut Work<F>, flow: &Flow<F>) {
    let from = &work.headers.endpoints.src;
    work.outer.src = if guard::is_link_local::<F>(from) {
        flow.to.src
    } else {
        *from
    };
    work.outer.dst = flow.to.dst;
}

/// An error that leaves by an uplink, about a packet that arrived at one.
#[inline(always)]
pub fn outward<P: Buffered, F: Maps + Parse>(
    packet: &mut P,
    work: &mut Work<F>,
) -> Result<Reason, Reason> {
    let network = maps::network::<F>(&work.headers.endpoints.src);
    let from_endpoint = network.is_some();
    if let Err(reason) = work.quoted.read(packet, &work.headers) {
        return Err(if from_endpoint {
            reason
        } else {
            Reason::NotOurs
        });
    }
    let Some(flow) = about(&work.quoted, Direction::FromEndpoint) else {
        let shown = |network: &Network| network.flags & (Network::ICMP | Network::MASQUERADE);
        if network.is_some_and(|network| shown(network) == Network::ICMP) {
            return Err(Reason::Routed);
        }
        let ours = from_endpoint || maps::network::<F>(&work.quoted.endpoints.dst).is_some();
        return Err(if ours {
            Reason::IcmpErrorWithoutFlow
        } else {
            Reason::NotOurs
        });
    };
    icmp_checksum::check(packet, work)?;
    work.to = flow.to.reversed();
    // The host's own errors keep their source.
    work.outer.src = if from_endpoint {
        flow.to.src
    } else {
        work.headers.endpoints.src
    };
    work.outer.dst = flow.to.dst;
    translate(packet, work)?;
    Ok(Reason::IcmpError)
}

/// An error from an endpoint to an address of the host, about a packet that another endpoint sent there, or a client
/// with a link-local address. Leaves in `work.to.dst` whom it goes to.
#[inline(always)]
pub fn hairpin<P: Buffered, F: Maps + Parse>(
    packet: &mut P,
    work: &mut Work<F>,
) -> Result<Reason, Reason> {
    work.quoted
        .read(packet, &work.headers)
        .map_err(|_| Reason::ToHost)?;
    let flow = about(&work.quoted, Direction::FromEndpoint).ok_or(Reason::ToHost)?;
    if !flow.has(Flow::<F>::HAIRPIN) && !guard::is_link_local::<F>(&flow.to.dst) {
        return Err(Reason::ToHost);
    }
    icmp_checksum::check(packet, work)?;
    work.to = flow.to.reversed();
    work.outer = flow.to;
    translate(packet, work)?;
    work.to.dst = flow.to.dst;
    Ok(Reason::IcmpError)
}

/// The entry that an answer to the quoted packet would find.
#[inline(always)]
pub fn about<F: Maps>(quoted: &Quoted<F>, direction: Direction) -> Option<&'static Flow<F>> {
    let answer = Tuple::new(&quoted.endpoints.reversed(), quoted.protocol, direction);
    flow::living(&answer, bpf::now())
}

/// Writes the outer addresses, and inside what the quoted packet was before it was translated.
///
/// Verifier: a sub-program, so that what it keeps on the stack is not its callers' too.
#[inline(never)]
pub fn translate<P: Packet, F: Maps + Parse>(packet: &mut P, work: &Work<F>) -> Result<(), Reason> {
    let headers = &work.headers;
    let checksum = headers.l4 + 2;
    let outside = rewrite::addresses::<P, F>(packet, headers.l3, &headers.endpoints, &work.outer)?;
    if F::VERSION == 6 {
        packet.mend_checksum(checksum, outside, Covers::PseudoHeader, false)?;
    }
    quoted_addresses(packet, checksum, &work.quoted, &work.to)?;
    quoted_ports(packet, checksum, &work.quoted, &work.to)
}

/// The addresses of the quoted packet: payload of the ICMP message, whose checksum covers them. The change of
/// an IPv4 header and that of its own checksum cancel out there.
#[inline(never)]
fn quoted_addresses<P: Packet, F: Maps>(
    packet: &mut P,
    icmp_checksum: u32,
    quoted: &Quoted<F>,
    was: &Endpoints<F>,
) -> Result<(), Reason> {
    let change = rewrite::change(&quoted.endpoints, was);
    if F::HEADER_CHECKSUM {
        packet.mend_header_checksum(quoted.l3 + rewrite::HEADER_CHECKSUM, change)?;
    } else {
        packet.mend_checksum(icmp_checksum, change, Covers::Payload, false)?;
    }
    rewrite::write_addresses(packet, quoted.l3, was)
}

/// Its ports, and its own checksum if it is quoted.
#[inline(never)]
fn quoted_ports<P: Packet, F: Maps + Parse>(
    packet: &mut P,
    icmp_checksum: u32,
    quoted: &Quoted<F>,
    was: &Endpoints<F>,
) -> Result<(), Reason> {
    let (old, new) = (rewrite::ports(&quoted.endpoints), rewrite::ports(was));
    let ports = checksum::difference(&[old], &[new]);
    packet.mend_checksum(icmp_checksum, ports, Covers::Payload, false)?;
    let query = quoted.protocol != proto::TCP && quoted.protocol != proto::UDP;
    if query {
        packet.write(quoted.l4 + 4, &(was.sport | was.dport).to_be())?;
    } else {
        packet.write(quoted.l4, &new)?;
    }
    let mut covered = ports;
    if quoted.protocol != proto::ICMP {
        covered = checksum::add(covered, rewrite::change(&quoted.endpoints, was));
    }
    let offset = quoted.l4
        + match quoted.protocol {
            proto::UDP => 6,
            proto::TCP => 16,
            _ => 2,
        };
    // A quotation may end before TCP's checksum: then there is nothing to mend.
    if !quoted.has(offset) {
        return Ok(());
    }
    let old: u16 = packet.read(offset)?;
    let mended = if quoted.protocol == proto::UDP {
        checksum::mend_udp(old, covered)
    } else {
        checksum::mend(old, covered)
    };
    packet.write(offset, &mended)?;
    let difference = checksum::difference(&[u32::from(old)], &[u32::from(mended)]);
    packet.mend_checksum(icmp_checksum, difference, Covers::Payload, false)
}
