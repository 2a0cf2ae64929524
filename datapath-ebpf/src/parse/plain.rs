//! The headers of a plain packet, all in one piece: IP without options or extensions, whole, and TCP or UDP behind it.
//! Whatever is not so is none of this module's: [`super::parse`] has the words for it.

use datapath_common::{
    family::{Family, V4, V6},
    proto,
    tuple::{Direction, Tuple},
};

use super::{ETHERNET, ipv4, ipv6};
use crate::packet::{Head, Packet};

/// Bytes of the two transports' headers.
const UDP: u32 = 8;
const TCP: u32 = 20;

/// A plain packet's headers.
pub struct Headers<F: Family> {
    /// The key of its flow: addresses, ports, protocol. TCP or UDP.
    pub tuple: Tuple<F>,
    /// The hop limit (IPv4's time to live).
    pub hops: u8,
    /// TCP's flags, else 0.
    pub tcp_flags: u8,
    /// TCP's acknowledgment number, host order.
    pub acknowledgment: u32,
    /// UDP's checksum as it lies in memory; of TCP nothing.
    pub udp_checksum: u16,
    /// Bytes from the transport's header on.
    pub payload: u32,
}

/// What an IP header says beside the addresses, if it is a plain one.
pub struct Network {
    pub(super) protocol: u8,
    pub(super) hops: u8,
    pub(super) payload: u32,
}

/// How each family's plain header is read.
pub trait Plain: Family {
    /// The IP header in a frame of this length, if it is a plain one and the packet is whole.
    fn network(head: &Head, frame: u32) -> Option<Network>;
}

impl Plain for V4 {
    #[inline(always)]
    fn network(head: &Head, frame: u32) -> Option<Network> {
        ipv4::plain(head, frame)
    }
}

impl Plain for V6 {
    #[inline(always)]
    fn network(head: &Head, frame: u32) -> Option<Network> {
        ipv6::plain(head, frame)
    }
}

/// Where the transport's header stands.
pub const fn l4<F: Family>() -> u32 {
    ETHERNET + F::HEADER
}

/// The headers of a packet that goes this way, if they are plain.
#[inline(always)]
pub fn plain<P: Packet, F: Plain>(packet: &P, direction: Direction) -> Option<Headers<F>> {
    let l4 = l4::<F>();
    let head = packet.head((l4 + UDP) as usize)?;
    let network = F::network(&head, packet.len())?;
    let addresses = ETHERNET + F::ADDRESSES;
    let [sport, dport]: [u16; 2] = head.get(l4);
    let mut headers = Headers {
        tuple: Tuple {
            src: head.get(addresses),
            dst: head.get(addresses + size_of::<F::Addr>() as u32),
            sport: u16::from_be(sport),
            dport: u16::from_be(dport),
            protocol: network.protocol,
            direction: direction as u8,
            zero: 0,
        },
        hops: network.hops,
        tcp_flags: 0,
        acknowledgment: 0,
        udp_checksum: 0,
        payload: network.payload,
    };
    match network.protocol {
        proto::UDP => {
            let [length, checksum]: [u16; 2] = head.get(l4 + 4);
            let length = u32::from(u16::from_be(length));
            if length < UDP || length > network.payload {
                return None;
            }
            headers.udp_checksum = checksum;
        }
        proto::TCP => {
            let head = packet.head((l4 + TCP) as usize)?;
            let [offset, flags]: [u8; 2] = head.get(l4 + 12);
            let length = u32::from(offset >> 4) * 4;
            if length < TCP || length > network.payload {
                return None;
            }
            headers.tcp_flags = flags;
            headers.acknowledgment = u32::from_be(head.get(l4 + 8));
        }
        _ => return None,
    }
    Some(headers)
}
