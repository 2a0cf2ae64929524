//! A translated packet sent on its way without the stack, as a router would: one hop less to live, and the
//! next link's header.

use datapath_common::{checksum, family::Family, reason::Reason};

use crate::{
    maps::{self, Maps, Work},
    packet::Packet,
    parse::Headers,
};

/// Offset of the IPv4 header's checksum.
const HEADER_CHECKSUM: u32 = 10;

/// Out of the bridge that leads to `work.to.dst`, which the kernel's neighbour table resolves. For packets
/// whose source is the host's already: one that re-entered the stack would be a martian there.
#[inline(always)]
pub fn to_neighbour<P: Packet, F: Maps>(packet: &mut P, work: &Work<F>) -> Result<(), Reason> {
    let network = maps::network::<F>(&work.to.dst).ok_or(Reason::NoNetwork)?;
    one_hop_less::<P, F>(packet, &work.headers)?;
    packet.redirect_neighbour::<F>(network.bridge, &work.to.dst)
}

/// Counts the hop limit (IPv4's time to live) down. A packet that has no hop left ends here.
#[inline(always)]
fn one_hop_less<P: Packet, F: Family>(packet: &mut P, headers: &Headers<F>) -> Result<(), Reason> {
    let offset = headers.l3 + F::HOP_LIMIT;
    let old: u8 = packet.read(offset)?;
    if old <= 1 {
        return Err(Reason::HopLimit);
    }
    if F::HEADER_CHECKSUM {
        let word = |limit: u8| u32::from_ne_bytes([limit, 0, 0, 0]);
        let difference = checksum::difference(&[word(old)], &[word(old - 1)]);
        packet.mend_header_checksum(headers.l3 + HEADER_CHECKSUM, difference)?;
    }
    packet.write(offset, &(old - 1))
}
