//! One packet's way, as the kernel's routing would have it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail};
use futures::TryStreamExt as _;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use rtnetlink::RouteMessageBuilder;

use super::{Netlink, hop_address};

/// Where the kernel would send a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// To this host itself.
    pub local: bool,
    /// The interface that it leaves by.
    pub ifindex: u32,
    /// The next hop, if there is one between.
    pub gateway: Option<IpAddr>,
}

impl Netlink {
    /// The way of a packet: one that came in by an interface, or one of the host's own.
    ///
    /// # Errors
    /// The kernel's: it has no way, does not forward, or would not take such a packet there.
    pub async fn way(&self, src: IpAddr, dst: IpAddr, from: Option<u32>) -> Result<Way> {
        let message = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => ask_v4(src, dst, from),
            (IpAddr::V6(src), IpAddr::V6(dst)) => ask_v6(src, dst, from),
            _ => bail!("{src} and {dst} are not of one address family"),
        };
        let mut answers = self.handle().route().get(message).execute();
        let Some(answer) = answers.try_next().await? else {
            bail!("no answer");
        };
        let mut way = Way {
            local: answer.header.kind == RouteType::Local,
            ifindex: 0,
            gateway: None,
        };
        if !matches!(answer.header.kind, RouteType::Local | RouteType::Unicast) {
            bail!("a route of type {:?}", answer.header.kind);
        }
        for attribute in &answer.attributes {
            if let RouteAttribute::Oif(index) = attribute {
                way.ifindex = *index;
            } else if let RouteAttribute::Gateway(hop) = attribute {
                way.gateway = hop_address(hop);
            }
        }
        Ok(way)
    }
}

fn ask_v4(src: Ipv4Addr, dst: Ipv4Addr, from: Option<u32>) -> RouteMessage {
    let ask = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(dst, 32)
        .source_prefix(src, 32);
    match from {
        Some(index) => ask.input_interface(index),
        None => ask,
    }
    .build()
}

fn ask_v6(src: Ipv6Addr, dst: Ipv6Addr, from: Option<u32>) -> RouteMessage {
    let ask = RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(dst, 128)
        .source_prefix(src, 128);
    match from {
        Some(index) => ask.input_interface(index),
        None => ask,
    }
    .build()
}
