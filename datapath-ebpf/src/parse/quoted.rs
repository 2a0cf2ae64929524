//! The packet that an ICMP error quotes: its IP header and at least eight bytes more (RFC 792; RFC 4443,
//! 2.4c has as much as fits).

use datapath_common::{family::Family, proto, reason::Reason, tuple::Endpoints};

use super::{Headers, Parse};
use crate::packet::Packet;

/// Bytes of the ICMP header before the quotation.
const ICMP_HEADER: u32 = 8;
/// Bytes of the quoted packet behind its IP header that there always are.
const LEAST: u32 = 8;

/// A quoted packet.
pub struct Quoted<F: Family> {
    /// Its addresses and ports, as it was on the wire.
    pub endpoints: Endpoints<F>,
    /// Its protocol number.
    pub protocol: u8,
    /// Offset of its IP header.
    pub l3: u32,
    /// Offset of what follows that.
    pub l4: u32,
    /// Where the quotation ends: what the frame has behind it is none of it.
    end: u32,
}

impl<F: Parse> Quoted<F> {
    /// Reads the quotation behind an error's header.
    #[inline(never)]
    pub fn read<P: Packet>(&mut self, packet: &P, headers: &Headers<F>) -> Result<(), Reason> {
        let l3 = headers.l4 + ICMP_HEADER;
        let network = F::network(packet, l3, true)?;
        let end = headers.l3 + headers.length;
        if network.fragment_offset != 0 || network.l4 + LEAST > end {
            return Err(Reason::IcmpErrorWithoutFlow);
        }
        let first: [u16; 4] = packet.read(network.l4)?;
        let (mut sport, mut dport) = (u16::from_be(first[0]), u16::from_be(first[1]));
        if network.protocol == F::ICMP {
            let kind = (sport >> 8) as u8;
            let id = u16::from_be(first[2]);
            (sport, dport) = if kind == F::ECHO_REQUEST {
                (id, 0)
            } else if kind == F::ECHO_REPLY {
                (0, id)
            } else {
                return Err(Reason::IcmpErrorWithoutFlow);
            };
        } else if network.protocol != proto::TCP && network.protocol != proto::UDP {
            return Err(Reason::IcmpErrorWithoutFlow);
        }
        *self = Self {
            endpoints: Endpoints {
                src: network.src,
                dst: network.dst,
                sport,
                dport,
            },
            protocol: network.protocol,
            l3,
            l4: network.l4,
            end,
        };
        Ok(())
    }

    /// Whether two bytes at this offset are quoted.
    #[inline(always)]
    pub fn has(&self, offset: u32) -> bool {
        offset + 2 <= self.end
    }
}
