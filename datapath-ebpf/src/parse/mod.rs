//! Bytes to headers. Every length is checked here, once: what comes out may be trusted, and what contradicts
//! itself never gets further.

mod ipv4;
mod ipv6;
pub mod plain;
mod quoted;
mod transport;

use datapath_common::{
    checksum,
    family::{Address as _, Family, V4, V6},
    reason::Reason,
    tuple::Endpoints,
};

pub use self::{ipv6::is_extension, quoted::Quoted};
use crate::packet::Packet;

/// Bytes of an Ethernet header: where the IP header starts at all our hooks.
pub const ETHERNET: u32 = 14;

/// What stands behind the IP header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A TCP segment.
    Tcp,
    /// A UDP datagram.
    Udp,
    /// An ICMP echo request or reply: a query, whose identifier is its port.
    Query,
    /// An ICMP error, which quotes the packet that it is about.
    Error,
    /// A fragment that is not the first: no ports.
    LaterFragment,
}

/// A parsed packet.
pub struct Headers<F: Family> {
    /// Addresses and ports (0 where there are none).
    pub endpoints: Endpoints<F>,
    /// What stands behind the IP header.
    pub kind: Kind,
    /// Protocol number.
    pub protocol: u8,
    /// TCP's flags, else 0.
    pub tcp_flags: u8,
    /// ICMP's type, else 0.
    pub icmp_type: u8,
    /// More fragments follow, or this is one.
    pub fragmented: bool,
    /// The datagram's identification, if it is fragmented.
    pub fragment_id: u32,
    /// Offset of the IP header.
    pub l3: u32,
    /// Offset of what follows it.
    pub l4: u32,
    /// TCP's sequence number, host order.
    pub sequence: u32,
    /// TCP's acknowledgment number, host order.
    pub acknowledgment: u32,
    /// Bytes from the IP header on.
    pub length: u32,
}

impl<F: Family> Headers<F> {
    /// Bytes behind the IP header and its options or extensions.
    #[inline(always)]
    pub const fn payload(&self) -> u32 {
        self.length - (self.l4 - self.l3)
    }

    /// What the pseudo-header adds to the transport's checksum.
    #[inline(always)]
    pub fn pseudo_header(&self) -> u16 {
        pseudo_header(&self.endpoints, self.protocol, self.payload())
    }

    /// The headers once the IP header is the other family's, without options or extensions, and with these addresses.
    #[inline(always)]
    pub fn across(&self, endpoints: Endpoints<F::Other>) -> Headers<F::Other> {
        Headers {
            endpoints,
            kind: self.kind,
            protocol: self.protocol,
            tcp_flags: self.tcp_flags,
            icmp_type: self.icmp_type,
            fragmented: self.fragmented,
            fragment_id: self.fragment_id,
            l3: self.l3,
            l4: self.l3 + F::Other::HEADER,
            sequence: self.sequence,
            acknowledgment: self.acknowledgment,
            length: self.length - (self.l4 - self.l3) + F::Other::HEADER,
        }
    }
}

/// What the IP header says, in both families.
pub struct Network<F: Family> {
    src: F::Addr,
    dst: F::Addr,
    protocol: u8,
    l4: u32,
    /// Bytes behind the IP header and its options or extensions.
    payload: u32,
    /// In bytes; 0 for the first.
    fragment_offset: u32,
    fragmented: bool,
    fragment_id: u32,
}

/// How each family's header is read.
pub trait Parse: Family {
    /// The IP header at `l3`. A quoted one may announce more bytes than the quotation has.
    fn network<P: Packet>(packet: &P, l3: u32, quoted: bool) -> Result<Network<Self>, Reason>;
}

impl Parse for V4 {
    #[inline(always)]
    fn network<P: Packet>(packet: &P, l3: u32, quoted: bool) -> Result<Network<Self>, Reason> {
        ipv4::network(packet, l3, quoted)
    }
}

impl Parse for V6 {
    #[inline(always)]
    fn network<P: Packet>(packet: &P, l3: u32, quoted: bool) -> Result<Network<Self>, Reason> {
        ipv6::network(packet, l3, quoted)
    }
}

/// What a pseudo-header adds to a checksum. `payload` counts from the transport's header on.
#[inline(always)]
pub fn pseudo_header<F: Family>(ends: &Endpoints<F>, protocol: u8, payload: u32) -> u16 {
    let none = F::Addr::UNSPECIFIED;
    let addresses = checksum::add(none.difference(&ends.src), none.difference(&ends.dst));
    checksum::pseudo_header(addresses, protocol, payload as u16)
}

/// Parses a packet into `headers`. All of them are written unless the packet is malformed: where what stands behind the
/// IP header is not followed, as if it were a [`Kind::LaterFragment`].
#[inline(never)]
pub fn parse<P: Packet, F: Parse>(packet: &P, headers: &mut Headers<F>) -> Result<(), Reason> {
    let network = F::network(packet, ETHERNET, false)?;
    transport::transport(packet, &network, headers)
}
