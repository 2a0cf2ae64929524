//! `explain`: what would happen to a packet.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    str::FromStr,
};

use anyhow::Result;
use clap::{Args, ValueEnum};
use datapath_common::proto;

use super::{Usage, output};
use crate::{
    config::ports::{AddrPorts, Fault, parse_addr},
    explain::{self, Question},
};

/// A client's port, where none is given.
const CLIENT: u16 = 40_000;

/// What `explain` takes.
#[derive(Args, Debug)]
pub(super) struct Explain {
    /// Protocol; icmp is a ping, in both families.
    protocol: Proto,
    /// Where it comes from: ADDRESS[:PORT], IPv6 in brackets. Of a ping the port is the identifier.
    #[arg(value_name = "SRC[:PORT]")]
    src: End,
    /// Where it goes. Of an IPv6 client and an IPv4 endpoint: by the port that is published to it, or back.
    #[arg(value_name = "DST[:PORT]")]
    dst: End,
    /// The interface that it arrives at [default: where its source is].
    #[arg(long = "in", value_name = "IFACE")]
    at: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Proto {
    Tcp,
    Udp,
    #[value(alias = "icmpv6", alias = "ping")]
    Icmp,
}

/// An address, with a port or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    addr: IpAddr,
    port: Option<u16>,
}

impl FromStr for End {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(addr) = bare.parse::<IpAddr>() {
            return Ok(Self { addr, port: None });
        }
        if !text.contains(':') {
            return Err(parse_addr(text)
                .err()
                .unwrap_or_else(|| Fault::new("not an address")));
        }
        let AddrPorts { addr, ports } = text.parse()?;
        if ports.first != ports.last {
            return Err(Fault::new("one packet has one port; name one"));
        }
        Ok(Self {
            addr,
            port: Some(ports.first),
        })
    }
}

impl Explain {
    /// Prints the explanation. Whatever would become of the packet, to have explained it is success.
    pub(super) async fn exec(self, pin_dir: &Path) -> Result<()> {
        let explanation = explain::explain(pin_dir, &self.question()?, self.at.as_deref()).await?;
        if self.json {
            return output::json(&explanation);
        }
        output::line(&explanation.to_string())
    }

    /// # Errors
    /// What was asked makes no sense.
    fn question(&self) -> Result<Question, Usage> {
        let (src, dst) = (self.src.addr, self.dst.addr);
        let across = src.is_ipv4() != dst.is_ipv4();
        let (protocol, dport) = match (self.protocol, self.dst.port) {
            (Proto::Icmp, _) if across => {
                return Err(Usage(format!(
                    "DST: {dst}: {src} is of the other address family; only published ports lead from one to the other"
                )));
            }
            (Proto::Icmp, None) if src.is_ipv6() => (proto::ICMPV6, 0),
            (Proto::Icmp, None) => (proto::ICMP, 0),
            (Proto::Icmp, Some(port)) => {
                let end = SocketAddr::new(dst, port);
                return Err(Usage(format!(
                    "DST: {end}: a ping has no port; leave it out"
                )));
            }
            (Proto::Tcp, Some(port)) => (proto::TCP, port),
            (Proto::Udp, Some(port)) => (proto::UDP, port),
            (Proto::Tcp | Proto::Udp, None) => {
                let example = SocketAddr::new(dst, 80);
                return Err(Usage(format!("DST: {dst}: which port? Write {example}")));
            }
        };
        Ok(Question {
            protocol,
            src: SocketAddr::new(src, self.src.port.unwrap_or(CLIENT)),
            dst: SocketAddr::new(dst, dport),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_with_and_without_ports() {
        let end = |text: &str| text.parse::<End>();
        let made = |addr: &str, port| {
            Ok(End {
                addr: addr.parse().unwrap(),
                port,
            })
        };
        assert_eq!(end("203.0.113.9"), made("203.0.113.9", None));
        assert_eq!(end("203.0.113.9:80"), made("203.0.113.9", Some(80)));
        assert_eq!(end("2001:db8::9"), made("2001:db8::9", None));
        assert_eq!(end("[2001:db8::9]"), made("2001:db8::9", None));
        assert_eq!(end("[2001:db8::9]:80"), made("2001:db8::9", Some(80)));
        for wrong in [
            "",
            "nobody",
            "203.0.113.9:0",
            "203.0.113.9:65536",
            "1.2.3.4:5-6",
        ] {
            assert!(end(wrong).is_err(), "{wrong}");
        }
    }
}
