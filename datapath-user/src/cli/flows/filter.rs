//! Which flows: the filters of `conntrack -L`, by its names, and those that only we have.

use std::{collections::BTreeSet, net::IpAddr};

use clap::{Args, ValueEnum};
use datapath_common::{conntrack::tcp, ports::PortRange, proto};
use ipnet::IpNet;

use crate::{
    config::ports::{Fault, HostPorts, parse_ports},
    model::Protocol,
    view::{FlowView, Nat, PortView},
};

/// Which flows. All that are given must hold; addresses and ports are the opening packet's, as it came.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Protocol.
    #[arg(short, long, value_name = "PROTOCOL")]
    proto: Option<Proto>,
    /// Source: an address, or a network such as 203.0.113.0/24.
    #[arg(short, long, value_name = "NET", value_parser = net)]
    src: Option<IpNet>,
    /// Destination.
    #[arg(short, long, value_name = "NET", value_parser = net)]
    dst: Option<IpNet>,
    /// Where the answers come from.
    #[arg(short = 'r', long, value_name = "NET", value_parser = net)]
    reply_src: Option<IpNet>,
    /// Where the answers go.
    #[arg(short = 'q', long, value_name = "NET", value_parser = net)]
    reply_dst: Option<IpNet>,
    /// Source port or range; of ICMP queries the identifier.
    #[arg(long, value_name = "PORTS", value_parser = parse_ports)]
    sport: Option<PortRange>,
    /// Destination port or range.
    #[arg(long, value_name = "PORTS", value_parser = parse_ports)]
    dport: Option<PortRange>,
    /// A port or range on any side, before or after it was translated.
    #[arg(long, value_name = "PORTS", value_parser = parse_ports)]
    port: Option<PortRange>,
    /// TCP's state, such as ESTABLISHED.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<tcp::State>,
    /// Answered or not; kept through a flood or not.
    #[arg(short = 'u', long, value_name = "STATUS")]
    status: Option<Status>,
    /// How it is translated.
    #[arg(long, value_name = "KIND")]
    nat: Option<Nat>,
    /// The published port that it came by: [IP:]PORT[-END][/tcp|udp].
    #[arg(long, value_name = "PORT")]
    binding: Option<HostPorts>,
    /// Address family.
    #[arg(short, long, value_name = "FAMILY")]
    family: Option<Family>,
    /// The slots of `binding`, once they were looked up.
    #[arg(skip)]
    slots: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Proto {
    Tcp,
    Udp,
    Icmp,
    Icmpv6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Family {
    Ipv4,
    Ipv6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Status {
    /// Established: a flood of new flows cannot push it out.
    Assured,
    /// No packet went the other way yet.
    Unreplied,
}

impl Filter {
    /// Finds the published ports that are asked for.
    pub(crate) fn resolve(&mut self, ports: &[PortView]) {
        if let Some(wanted) = &self.binding {
            self.slots = ports
                .iter()
                .filter(|port| covers(wanted, port))
                .map(|port| port.slot)
                .collect();
        }
    }

    /// Whether a flow is one of them.
    pub(crate) fn holds(&self, flow: &FlowView) -> bool {
        let (original, reply) = (&flow.original, &flow.reply);
        let ports = [original.sport, original.dport, reply.sport, reply.dport];
        asked(self.proto, |proto| proto.number() == flow.protocol)
            && asked(self.src, |net| net.contains(&original.src))
            && asked(self.dst, |net| net.contains(&original.dst))
            && asked(self.reply_src, |net| net.contains(&reply.src))
            && asked(self.reply_dst, |net| net.contains(&reply.dst))
            && asked(self.sport, |range| has(range, original.sport))
            && asked(self.dport, |range| has(range, original.dport))
            && asked(self.port, |range| {
                ports.iter().any(|port| has(range, *port))
            })
            && asked(self.state, |state| flow.state == Some(state))
            && asked(self.status, |status| match status {
                Status::Assured => flow.assured,
                Status::Unreplied => !flow.answered,
            })
            && asked(self.nat, |nat| flow.nat == nat)
            && (self.binding.is_none() || self.slots.contains(&flow.binding))
            && asked(self.family, |family| {
                original.src.is_ipv6() == (family == Family::Ipv6)
            })
    }
}

impl Proto {
    const fn number(self) -> u8 {
        match self {
            Self::Tcp => proto::TCP,
            Self::Udp => proto::UDP,
            Self::Icmp => proto::ICMP,
            Self::Icmpv6 => proto::ICMPV6,
        }
    }
}

/// What was not asked for holds.
fn asked<T>(wanted: Option<T>, holds: impl FnOnce(T) -> bool) -> bool {
    wanted.is_none_or(holds)
}

fn has(range: PortRange, port: u16) -> bool {
    (range.first..=range.last).contains(&port)
}

/// Without an address any will do.
fn covers(wanted: &HostPorts, port: &PortView) -> bool {
    let listen = &port.publication.listen;
    let protocol: Protocol = wanted.protocol;
    listen.protocol == protocol
        && has(wanted.ports, listen.port)
        && asked(wanted.addr, |addr| addr == listen.addr)
}

pub(crate) fn net(text: &str) -> Result<IpNet, Fault> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| {
            Fault::new(
                "not an address or network; write 203.0.113.9, 203.0.113.0/24 or 2001:db8::/32",
            )
        })
}

fn state(text: &str) -> Result<tcp::State, Fault> {
    let all: Vec<_> = (0..=u8::MAX).filter_map(tcp::State::from_raw).collect();
    all.iter()
        .copied()
        .find(|state| state.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|state| state.name()).collect();
            Fault::new(format!(
                "not a state of TCP; write one of {}",
                names.join(", ")
            ))
        })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use datapath_common::binding::{BindingStats, Source};

    use super::*;
    use crate::{
        model::{Listen, Publication},
        view::Half,
    };

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    fn filter(words: &str) -> Filter {
        let words = words.split_whitespace();
        let mut filter = Line::try_parse_from(std::iter::once("flows").chain(words))
            .unwrap_or_else(|error| panic!("{error}"))
            .filter;
        filter.resolve(&[
            published("203.0.113.2", 8080, 3),
            published("0.0.0.0", 9090, 4),
        ]);
        filter
    }

    fn published(addr: &str, port: u16, slot: u32) -> PortView {
        PortView {
            publication: Publication {
                listen: Listen {
                    addr: addr.parse().unwrap(),
                    port,
                    protocol: Protocol::Tcp,
                },
                to: "172.17.0.2".parse().unwrap(),
                to_port: 80,
                allow: None,
                source: Source::Api,
                owner: "api".to_owned(),
            },
            stats: BindingStats::default(),
            slot,
        }
    }

    fn half(src: &str, dst: &str) -> Half {
        let (src, dst): (std::net::SocketAddr, std::net::SocketAddr) =
            (src.parse().unwrap(), dst.parse().unwrap());
        Half {
            src: src.ip(),
            dst: dst.ip(),
            sport: src.port(),
            dport: dst.port(),
            packets: 0,
            bytes: 0,
        }
    }

    /// A client's connection to port 8080, which leads to 172.17.0.2:80.
    fn flow() -> FlowView {
        FlowView {
            protocol: proto::TCP,
            state: Some(tcp::State::Established),
            original: half("203.0.113.9:40000", "203.0.113.2:8080"),
            reply: half("172.17.0.2:80", "203.0.113.9:40000"),
            answered: true,
            assured: true,
            nat: Nat::Published,
            binding: 3,
            remaining: Duration::ZERO,
            age: Duration::ZERO,
        }
    }

    #[test]
    fn each_filter_holds_for_its_own_and_for_no_other() {
        for (words, holds) in [
            ("", true),
            ("-p tcp", true),
            ("--proto udp", false),
            ("-s 203.0.113.9", true),
            ("--src 203.0.113.0/24 --dst 203.0.113.2", true),
            ("-s 203.0.113.2", false),
            ("-d 10.0.0.0/8", false),
            ("-r 172.17.0.0/16 -q 203.0.113.9", true),
            ("-r 172.18.0.0/16", false),
            ("-q 203.0.113.2", false),
            ("--sport 40000", true),
            ("--sport 1-39999", false),
            ("--dport 8000-9000", true),
            ("--dport 80", false),
            ("--port 80", true),
            ("--port 81", false),
            ("--state established", true),
            ("--state SYN_SENT", false),
            ("-u assured", true),
            ("--status unreplied", false),
            ("--nat published", true),
            ("--nat masquerade", false),
            ("--binding 8080", true),
            ("--binding 203.0.113.2:8080/tcp", true),
            ("--binding 203.0.113.3:8080", false),
            ("--binding 8080/udp", false),
            ("--binding 9090", false),
            ("--binding 4711", false),
            ("-f ipv4", true),
            ("-f ipv6", false),
            ("-p tcp --nat published --state syn_sent", false),
        ] {
            assert_eq!(filter(words).holds(&flow()), holds, "{words:?}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_remedy() {
        for (words, part) in [
            ("-s 300.1.1.1", "not an address or network"),
            ("--src 203.0.113.9/33", "not an address or network"),
            ("--port 70000", "70000"),
            ("--state HALF", "ESTABLISHED"),
            ("--nat dnat", "published"),
        ] {
            let words = std::iter::once("flows").chain(words.split(' '));
            let error = Line::try_parse_from(words).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
