//! The packet in question: as asked for, as a frame, and as it comes out.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use datapath_common::{proto, way::Mac};
use etherparse::{NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TransportSlice};
use serde::Serialize;

/// Who sends frames that nobody sends: locally administered, so no card's.
pub(super) const SENDER: Mac = [0x02, 0, 0, 0, 0, 0xee];
const HOPS: u8 = 64;

/// A packet's protocol and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Protocol number.
    pub protocol: u8,
    /// Where it comes from; of a ping the port is the identifier.
    pub src: SocketAddr,
    /// Where it goes.
    pub dst: SocketAddr,
}

/// The ends of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ends {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port; of a ping the identifier.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
}

impl Question {
    /// Its ends.
    #[must_use]
    pub const fn ends(&self) -> Ends {
        Ends {
            src: self.src.ip(),
            dst: self.dst.ip(),
            sport: self.src.port(),
            dport: self.dst.port(),
        }
    }

    /// A frame of it with these Ethernet addresses, destination first. `first` asks for a packet that may open a flow.
    ///
    /// # Errors
    /// When source and destination are not of one family.
    pub fn frame(&self, [to, from]: [Mac; 2], first: bool) -> Result<Vec<u8>> {
        let ethernet = PacketBuilder::ethernet2(from, to);
        let ip = match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), HOPS),
            (IpAddr::V6(src), IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), HOPS),
            (src, dst) => bail!("{src} and {dst} are not of one address family"),
        };
        self.transport(ip, first)
    }

    fn transport(
        &self,
        ip: PacketBuilderStep<etherparse::IpHeaders>,
        first: bool,
    ) -> Result<Vec<u8>> {
        let (sport, dport) = (self.src.port(), self.dst.port());
        let mut bytes = Vec::new();
        match self.protocol {
            proto::TCP if first => ip.tcp(sport, dport, 1, 64_240).syn().write(&mut bytes, &[]),
            proto::TCP => ip
                .tcp(sport, dport, 1, 64_240)
                .ack(1)
                .write(&mut bytes, &[]),
            proto::UDP => ip.udp(sport, dport).write(&mut bytes, &[]),
            proto::ICMP => ip.icmpv4_echo_request(sport, 1).write(&mut bytes, &[]),
            _ => ip.icmpv6_echo_request(sport, 1).write(&mut bytes, &[]),
        }
        .context("the packet")?;
        Ok(bytes)
    }
}

/// The ends of a packet in a frame.
///
/// # Errors
/// When it is not what was put in.
pub fn ends(frame: &[u8]) -> Result<Ends> {
    let packet = SlicedPacket::from_ethernet(frame).context("the packet as it came out")?;
    let (src, dst): (IpAddr, IpAddr) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        Some(NetSlice::Ipv6(ip)) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        Some(NetSlice::Arp(_)) | None => bail!("what came out is not IP"),
    };
    let identifier = |bytes: &[u8]| match bytes.get(4..6) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    };
    let (sport, dport) = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
        Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
        Some(TransportSlice::Icmpv4(icmp)) => (identifier(icmp.slice()), 0),
        Some(TransportSlice::Icmpv6(icmp)) => (identifier(icmp.slice()), 0),
        Some(TransportSlice::Igmp(_)) | None => (0, 0),
    };
    Ok(Ends {
        src,
        dst,
        sport,
        dport,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for (protocol, src, dst) in [
            (proto::TCP, "203.0.113.9:40000", "203.0.113.2:8080"),
            (proto::UDP, "[2001:db8::9]:40000", "[2001:db8::2]:53"),
            (proto::ICMP, "172.17.0.2:7", "203.0.113.9:0"),
            (proto::ICMPV6, "[fd00:17::2]:7", "[2001:db8::9]:0"),
        ] {
            let question = Question {
                protocol,
                src: src.parse().unwrap(),
                dst: dst.parse().unwrap(),
            };
            for first in [true, false] {
                let frame = question.frame([[2; 6], SENDER], first).unwrap();
                assert_eq!(ends(&frame).unwrap(), question.ends(), "{protocol}");
            }
        }
    }
}
