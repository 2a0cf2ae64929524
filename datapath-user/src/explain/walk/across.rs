//! Questions whose ends are of two families: which packet that is on the wire. There it is of one family always, and
//! translated between a client of IPv6 and an endpoint of IPv4 (NAT64).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Result, bail};
use datapath_common::names::programs::UPLINK_INGRESS;

use super::{
    super::{Question, packet::Ends},
    Walk,
    facts::shown,
};
use crate::{kernel::flows::Flows, model::Listen};

impl Walk {
    /// Puts the packet that is meant in the place of a question that has ends of two families.
    pub(super) fn put_on_the_wire(&mut self, at: Option<&str>) -> Result<()> {
        let ends = self.question.ends();
        let (src, dst) = match (ends.src, ends.dst) {
            (IpAddr::V6(_), IpAddr::V4(_)) => (self.question.src, self.asked_for(at)?),
            (IpAddr::V4(_), IpAddr::V6(_)) => self.answered()?,
            _ => return Ok(()),
        };
        self.asked = Some(ends);
        self.question = Question {
            src,
            dst,
            ..self.question
        };
        Ok(())
    }

    /// What a client of IPv6 dials to come to an endpoint of IPv4: a port that is published to it.
    fn asked_for(&self, at: Option<&str>) -> Result<SocketAddr> {
        let to = self.question.dst;
        let leads = |listen: &&Listen| {
            listen.addr.is_ipv6() && listen.protocol.number() == self.question.protocol
        };
        let ports = self.ports.iter().map(|port| &port.publication);
        let listen = ports
            .filter(|port| (port.to, port.to_port) == (to.ip(), to.port()))
            .map(|port| &port.listen)
            .find(leads);
        match listen {
            Some(listen) if listen.addr.is_unspecified() => {
                Ok(SocketAddr::new(self.host_v6(at)?.into(), listen.port))
            }
            Some(listen) => Ok(SocketAddr::new(listen.addr, listen.port)),
            None => bail!(
                "DST: {to}: no published port leads IPv6 clients there; `datapath publish [::]:{}:{} --to {}` makes one",
                to.port(),
                to.port(),
                to.ip()
            ),
        }
    }

    /// An address of IPv6 that clients know this host by.
    fn host_v6(&self, at: Option<&str>) -> Result<Ipv6Addr> {
        let arrives = |ifindex: u32| match at {
            Some(name) => self.name(ifindex) == name,
            None => self.has(UPLINK_INGRESS, ifindex),
        };
        let addresses = self.host.addresses.iter();
        let found = addresses
            .filter(|address| address.preferred && arrives(address.ifindex))
            .find_map(|address| match address.addr {
                IpAddr::V6(addr) => Some(addr),
                IpAddr::V4(_) => None,
            });
        match found {
            Some(addr) => Ok(addr),
            None => bail!("this host has no IPv6 address there that clients could know it by"),
        }
    }

    /// An endpoint of IPv4 that answers a client of IPv6: from where, and to whom as the endpoint sees it.
    fn answered(&self) -> Result<(SocketAddr, SocketAddr)> {
        let asked = self.question.ends();
        let mut found = None;
        Flows::new(&self.tables)?.each(
            |view| {
                let (original, reply) = (shown(&view.original), shown(&view.reply));
                view.protocol == self.question.protocol && answers(&asked, &original, &reply)
            },
            |view| {
                found = Some((view.reply.source(), view.reply.destination()));
                Ok(())
            },
        )?;
        match found {
            Some(ends) => Ok(ends),
            None => bail!(
                "DST: {}: {} is of the other address family and can only answer; there is no flow of which this were an \
                 answer",
                self.question.dst,
                self.question.src.ip()
            ),
        }
    }
}

fn answers(asked: &Ends, original: &Ends, reply: &Ends) -> bool {
    (reply.src, reply.sport) == (asked.src, asked.sport)
        && (original.src, original.sport) == (asked.dst, asked.dport)
}
