//! ICMP errors about packets between the families: outside and inside are translated alike.
//!
//! Within IPv6 they are translated as any other (`icmp_error::translate`), mapped addresses and all; what changes
//! between the families is both IP headers, the message's type, and its checksum, mended so that a wrong one stays
//! wrong.

use datapath_common::{
    checksum,
    family::{Family as _, V4, V6},
    nat64::{self, Error, GROWTH, Header4, Header6, LEAST_MTU},
    reason::Reason,
    tuple::{Direction, Tuple},
};

use super::is_allowed;
use crate::{
    bpf, flow, forward,
    maps::{Maps, Work},
    nat::{icmp_checksum, icmp_error},
    packet::reshape::Reshape,
    parse::{ETHERNET, Headers, Quoted, parse},
    report,
};

/// Bytes of an ICMP error before what it quotes.
const ICMP: u32 = 8;

/// The first eight bytes of an ICMP error: type and code, checksum, an MTU or a pointer.
#[repr(C)]
#[derive(Clone, Copy)]
struct Icmp {
    kind: u8,
    code: u8,
    checksum: u16,
    word: u32,
}

impl Icmp {
    #[inline(always)]
    const fn error(self) -> Error {
        Error {
            kind: self.kind,
            code: self.code,
            word: u32::from_be(self.word),
        }
    }

    /// Another error with this one's checksum.
    #[inline(always)]
    const fn saying(self, error: Error) -> Self {
        Self {
            kind: error.kind,
            code: error.code,
            checksum: self.checksum,
            word: error.word.to_be(),
        }
    }

    /// What it adds to a sum, but for the checksum.
    #[inline(always)]
    fn words(&self) -> [u32; 2] {
        [u32::from_ne_bytes([self.kind, self.code, 0, 0]), self.word]
    }
}

/// An error from outside about an answer that an endpoint gave. `work.to` is what the quoted packet was.
#[inline(never)]
pub fn inward<P: Reshape>(packet: &mut P, work: &mut Work<V6>) -> Reason {
    report::reason(enter(packet, work))
}

#[inline(always)]
fn enter<P: Reshape>(packet: &mut P, work: &mut Work<V6>) -> Result<Reason, Reason> {
    if !is_allowed() {
        return Err(Reason::CrossFamily);
    }
    if !is_plain(&work.headers, &work.quoted) {
        return Err(Reason::Nat64NotPlain);
    }
    // The bridge's address stands for whoever says it: IPv4 has no word for a router of IPv6.
    let was = work.to;
    work.outer = was.reversed();
    icmp_error::translate(packet, work)?;
    become_v4(packet)?;
    work.to = was.reversed();
    let sent = super::send(packet, work);
    if sent == Reason::Nat64 {
        Ok(Reason::IcmpError)
    } else {
        Err(sent)
    }
}

/// What became of an endpoint's error to an address of the host, if it is about a client's packet of the other
/// family.
#[inline(never)]
pub fn outward<P: Reshape>(packet: &mut P, work: &mut Work<V4>) -> Option<Reason> {
    work.quoted.read(packet, &work.headers).ok()?;
    let quoted = &work.quoted;
    let direction = Direction::FromEndpoint;
    let answer = Tuple::new(&quoted.endpoints.reversed(), quoted.protocol, direction).across()?;
    let flow = flow::living(&answer, bpf::now())?;
    let six = V6::work()?;
    six.to = flow.to.reversed();
    six.outer = flow.to;
    let plain = is_allowed() && is_plain(&work.headers, &work.quoted);
    if !plain || work.headers.length + 2 * GROWTH > LEAST_MTU {
        return Some(Reason::Nat64NotPlain);
    }
    if let Err(reason) = icmp_checksum::check(packet, work) {
        return Some(reason);
    }
    Some(report::reason(leave(packet, six, flow.way_out())))
}

#[inline(always)]
fn leave<P: Reshape>(packet: &mut P, work: &mut Work<V6>, way_out: u32) -> Result<Reason, Reason> {
    become_v6(packet)?;
    parse::<P, V6>(packet, &mut work.headers)?;
    work.quoted.read(packet, &work.headers)?;
    icmp_error::translate(packet, work)?;
    forward::to_route(packet, &work.headers, way_out)?;
    Ok(Reason::IcmpError)
}

/// Whether there is nothing but headers of fixed size, outside and inside.
#[inline(always)]
fn is_plain<F: Maps>(headers: &Headers<F>, quoted: &Quoted<F>) -> bool {
    !headers.fragmented
        && headers.l4 - headers.l3 == F::HEADER
        && quoted.l4 - quoted.l3 == F::HEADER
}

/// A packet's header, and of an error what stands behind it, in both families.
///
/// Verifier: they lie in the workspace, since the stack has no room for all of them.
pub struct Crossing {
    pub(super) outer6: Header6,
    inner6: Header6,
    pub(super) outer4: Header4,
    inner4: Header4,
    icmp: Icmp,
}

impl Crossing {
    /// What the header is in IPv4.
    #[inline(never)]
    pub(super) fn outer_to_v4(&mut self) -> Result<(), Reason> {
        let id = bpf::random() as u16;
        self.outer4 = self.outer6.across(id).ok_or(Reason::CrossFamily)?;
        Ok(())
    }
}

/// An ICMPv6 error with mapped addresses, outside and inside, becomes one of ICMP.
#[inline(never)]
fn become_v4<P: Reshape>(packet: &mut P) -> Result<(), Reason> {
    let work = V6::work().ok_or(Reason::TableFull)?;
    let crossing = &mut work.crossing;
    crossing.outer6 = packet.read(ETHERNET)?;
    crossing.icmp = packet.read(ETHERNET + V6::HEADER)?;
    crossing.inner6 = packet.read(ETHERNET + V6::HEADER + ICMP)?;
    to_v4(crossing)?;
    packet.change_family::<V4>()?;
    packet.adjust(-(GROWTH as i32))?;
    packet.write_anew(ETHERNET, &crossing.outer4)?;
    packet.write_anew(ETHERNET + V4::HEADER, &crossing.icmp)?;
    packet.write_anew(ETHERNET + V4::HEADER + ICMP, &crossing.inner4)
}

#[inline(never)]
fn to_v4(crossing: &mut Crossing) -> Result<(), Reason> {
    let icmp = crossing.icmp;
    let said = nat64::error_to_v4(icmp.error()).ok_or(Reason::Nat64NotPlain)?;
    let mut said = icmp.saying(said);
    let outer = &mut crossing.outer6;
    let gone = checksum::add(pseudo_header(outer), checksum::sum(&icmp.words()));
    let gone = checksum::add(gone, sum(&crossing.inner6));
    // The quoted header, which has a checksum of its own, adds nothing.
    let come = checksum::sum(&said.words());
    said.checksum = checksum::mend(icmp.checksum, checksum::difference(&[gone], &[come]));
    outer.length = (u16::from_be(outer.length).saturating_sub(GROWTH as u16)).to_be();
    crossing.outer_to_v4()?;
    crossing.inner4 = crossing.inner6.across(0).ok_or(Reason::CrossFamily)?;
    crossing.icmp = said;
    Ok(())
}

/// An ICMP error becomes one of ICMPv6 with mapped addresses, outside and inside.
#[inline(never)]
fn become_v6<P: Reshape>(packet: &mut P) -> Result<(), Reason> {
    let work = V6::work().ok_or(Reason::TableFull)?;
    let crossing = &mut work.crossing;
    crossing.outer4 = packet.read(ETHERNET)?;
    crossing.icmp = packet.read(ETHERNET + V4::HEADER)?;
    crossing.inner4 = packet.read(ETHERNET + V4::HEADER + ICMP)?;
    to_v6(crossing)?;
    packet.change_family::<V6>()?;
    packet.adjust(GROWTH as i32)?;
    packet.write_anew(ETHERNET, &crossing.outer6)?;
    packet.write_anew(ETHERNET + V6::HEADER, &crossing.icmp)?;
    packet.write_anew(ETHERNET + V6::HEADER + ICMP, &crossing.inner6)
}

#[inline(never)]
fn to_v6(crossing: &mut Crossing) -> Result<(), Reason> {
    let icmp = crossing.icmp;
    let said = nat64::error_to_v6(icmp.error()).ok_or(Reason::Nat64NotPlain)?;
    let mut said = icmp.saying(said);
    let outer = &mut crossing.outer6;
    *outer = crossing.outer4.across();
    outer.length = (u16::from_be(outer.length) + GROWTH as u16).to_be();
    crossing.inner6 = crossing.inner4.across();
    let gone = checksum::sum(&crossing.inner4.words());
    let gone = checksum::add(checksum::sum(&icmp.words()), gone);
    let come = checksum::add(pseudo_header(outer), checksum::sum(&said.words()));
    let come = checksum::add(come, sum(&crossing.inner6));
    said.checksum = checksum::mend(icmp.checksum, checksum::difference(&[gone], &[come]));
    crossing.icmp = said;
    Ok(())
}

#[inline(never)]
fn sum(header: &Header6) -> u32 {
    checksum::sum(&header.words())
}

#[inline(never)]
fn pseudo_header(header: &Header6) -> u32 {
    header.pseudo_header()
}
