//! What is known on the way: the flow, the published port, the networks and what the kernel's routing says.

use std::net::IpAddr;

use anyhow::{Result, bail};
use datapath_common::{
    family::{Address as _, Family, V4, V6},
    mapping::MappingKey,
    network::Network,
    settings::Settings,
    tuple::{Direction, Endpoints, Tuple},
    way::{Hop, HopKey, Mac},
};

use super::{
    super::{Flow, Question, packet},
    Walk,
};
use crate::{
    kernel::{
        flows::{self, Flows},
        tables::{Tabled, subnet_key},
    },
    model::{Listen, Protocol, every_address},
    view::{Half, PortView},
};

impl Walk {
    /// Unspecified: the kernel chooses the source of what is looked up.
    pub(super) const fn own(&self, like: IpAddr) -> IpAddr {
        every_address(like.is_ipv6())
    }

    /// The published port that a process of this host would be led by.
    pub(super) fn led<F: Tabled>(&self) -> Option<&PortView> {
        let (src, dst) = (self.question.src.ip(), self.question.dst);
        let own = |addr| self.is_local::<F>(addr).unwrap_or(false);
        if !own(src) || !own(dst.ip()) {
            return None;
        }
        let protocol = Protocol::from_number(self.question.protocol)?;
        [dst.ip(), self.own(dst.ip())].into_iter().find_map(|addr| {
            let listen = Listen {
                addr,
                port: dst.port(),
                protocol,
            };
            self.ports
                .iter()
                .find(|port| port.publication.listen == listen)
        })
    }

    /// Copies what the packet meets.
    pub(super) fn know<F: Tabled>(&mut self, direction: Direction) -> Result<()> {
        let Some(ends) = endpoints::<F>(&self.question) else {
            bail!("source and destination are not of one address family");
        };
        let protocol = self.question.protocol;
        let key = Tuple::new(&ends, protocol, direction);
        if !self.know_flow(&key)? {
            self.know_across()?;
        }
        let inside = MappingKey::<F>::new(ends.src, ends.sport, protocol, direction);
        self.copy.know_mapping(&inside)?;
        self.copy.know_hop::<F>(&HopKey {
            src: ends.src,
            dst: ends.dst,
        });
        Ok(())
    }

    /// Copies the flow between the families that an IPv4 endpoint's packet may be an answer of.
    fn know_across(&mut self) -> Result<()> {
        let Some(ends) = endpoints::<V4>(&self.question).and_then(|ends| ends.across()) else {
            return Ok(());
        };
        let key = Tuple::<V6>::new(&ends, self.question.protocol, Direction::FromEndpoint);
        self.know_flow(&key)?;
        self.way_out = self.copy.known_flow(&key)?.map(|flow| flow.way_out());
        Ok(())
    }

    /// Copies a flow, if there is one. Whether it lives still is for the program to say: it takes a first packet for
    /// one of a living flow.
    fn know_flow<F: Tabled>(&mut self, key: &Tuple<F>) -> Result<bool> {
        let Some(flow) = self.copy.know_flow(key)? else {
            return Ok(false);
        };
        let judge = flows::judge(&self.tables)?;
        self.first = !judge.is_current(&flow) || flow.is_expired(&judge.timeouts, judge.now);
        Ok(true)
    }

    /// The flow that the packet belongs to, as the last run left it, and its published port's slot.
    pub(super) fn flow(&self) -> Result<Option<(Flow, u32)>> {
        let asked = self.question.ends();
        let mut found = None;
        Flows::new(self.copy.tables())?.each(
            |view| view.protocol == self.question.protocol,
            |view| {
                let (original, reply) = (shown(&view.original), shown(&view.reply));
                if original == asked || reply == asked {
                    let flow = Flow {
                        new: self.first,
                        nat: view.nat.name(),
                        state: view.state.map(|state| state.name()),
                        original,
                        reply,
                    };
                    found = Some((flow, view.binding));
                }
                Ok(())
            },
        )?;
        Ok(found)
    }

    /// Where a packet for an endpoint goes that passes by the stack, in words.
    pub(super) fn past_the_stack(&self, to: IpAddr) -> Result<String> {
        let (port, network) = match to {
            IpAddr::V4(_) => (
                self.port::<V4>(to, Settings::FAST4)?,
                self.network::<V4>(to)?,
            ),
            IpAddr::V6(_) => (
                self.port::<V6>(to, Settings::FAST6)?,
                self.network::<V6>(to)?,
            ),
        };
        Ok(match (port, network) {
            (Some(port), _) => {
                let port = self.name(port);
                format!("past the stack, straight into the endpoint by {port}")
            }
            // Between the families a packet passes by the stack in any case.
            (None, Some(network)) => {
                format!("past the stack, out by {}", self.name(network.bridge))
            }
            (None, None) => "past the stack".to_owned(),
        })
    }

    /// The port of an endpoint, if it is known and packets may be sent there at once.
    fn port<F: Tabled>(&self, addr: IpAddr, fast: u32) -> Result<Option<u32>> {
        if self.tables.settings()?.get(&0, 0)?.flags & fast == 0 {
            return Ok(None);
        }
        let Some(addr) = F::Addr::from_ip(addr) else {
            return Ok(None);
        };
        let endpoint = self.tables.endpoints::<F>()?.1.get(&addr, 0);
        Ok(endpoint.ok().map(|endpoint| endpoint.port))
    }

    /// Where the shortcut sends it, in words.
    pub(super) fn hop<F: Tabled>(&self) -> String {
        let hop: Option<Hop> = endpoints::<F>(&self.question).and_then(|ends| {
            let key = HopKey::<F> {
                src: ends.src,
                dst: ends.dst,
            };
            self.tables.hops::<F>().ok()?.1.get(&key, 0).ok()
        });
        hop.map_or_else(|| "the uplink".to_owned(), |hop| self.name(hop.uplink))
    }

    /// What the kernel's own routing does with it, in words.
    pub(super) async fn through_the_stack(
        &self,
        src: IpAddr,
        dst: IpAddr,
        from: Option<u32>,
    ) -> String {
        match self.netlink.way(src, dst, from).await {
            Ok(way) if way.local => {
                "to this host itself: its firewall and its sockets decide".to_owned()
            }
            Ok(way) => {
                let via = way
                    .gateway
                    .map(|hop| format!(" via {hop}"))
                    .unwrap_or_default();
                format!("through the stack, out by {}{via}", self.name(way.ifindex))
            }
            Err(error) => format!("into the stack, which has no way to {dst} from there ({error})"),
        }
    }

    pub(super) fn network<F: Tabled>(&self, addr: IpAddr) -> Result<Option<Network>> {
        let Some(addr) = F::Addr::from_ip(addr) else {
            return Ok(None);
        };
        let key = subnet_key::<F>(addr, F::Addr::BITS);
        Ok(self.tables.networks::<F>()?.get(&key, 0).ok())
    }

    pub(super) fn is_local<F: Tabled>(&self, addr: IpAddr) -> Result<bool> {
        let Some(own) = F::Addr::from_ip(addr) else {
            return Ok(false);
        };
        Ok(addr.is_loopback() || self.tables.locals::<F>()?.1.get(&own, 0).is_ok())
    }

    pub(super) fn has(&self, program: &str, ifindex: u32) -> bool {
        self.links.contains_key(&(program.to_owned(), ifindex))
    }

    pub(super) fn name(&self, ifindex: u32) -> String {
        let link = self.host.links.iter().find(|link| link.ifindex == ifindex);
        link.map_or_else(|| ifindex.to_string(), |link| link.name.clone())
    }

    pub(super) fn mac(&self, ifindex: u32) -> Mac {
        let link = self.host.links.iter().find(|link| link.ifindex == ifindex);
        link.and_then(|link| link.mac).unwrap_or_default()
    }
}

/// The ends of a direction of a flow.
pub(super) fn shown(half: &Half) -> packet::Ends {
    packet::Ends {
        src: half.src,
        dst: half.dst,
        sport: half.sport,
        dport: half.dport,
    }
}

/// Addresses and ports asked about, if both are of this family.
pub(super) fn endpoints<F: Family>(question: &Question) -> Option<Endpoints<F>> {
    Some(Endpoints {
        src: F::Addr::from_ip(question.src.ip())?,
        dst: F::Addr::from_ip(question.dst.ip())?,
        sport: question.src.port(),
        dport: question.dst.port(),
    })
}
