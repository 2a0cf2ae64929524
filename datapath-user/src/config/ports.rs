//! Addresses and ports as people write them: `203.0.113.2:7000-7009`, `[::]:8080`, and the argument of
//! `docker run -p`.
//!
//! Every way in (file, command line, API) reads them here, so that a mistake is explained in the same words
//! everywhere.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use datapath_common::ports::PortRange;

use crate::model::Protocol;

/// What is wrong with a piece of text, and what to write in its place: one line, without the text itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub(crate) String);

/// An address with a port or a range of them: `ADDRESS:PORT[-END]`, IPv6 in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddrPorts {
    /// The address.
    pub addr: IpAddr,
    /// The ports.
    pub ports: PortRange,
}

/// What to publish, as `docker run -p` has it: `[IP:]PORT[-END]:CPORT[-END][/tcp|udp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishArg {
    /// Where it listens.
    pub host: HostPorts,
    /// The endpoint's ports: as many as the host's.
    pub endpoint: PortRange,
}

/// What to withdraw: `[IP:]PORT[-END][/tcp|udp]`; the host's half of [`PublishArg`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPorts {
    /// The host's address; `None` for every address.
    pub addr: Option<IpAddr>,
    /// The host's ports.
    pub ports: PortRange,
    /// The protocol.
    pub protocol: Protocol,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl FromStr for AddrPorts {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let (addr, ports) = text
            .rsplit_once(':')
            .ok_or_else(|| Fault::new("the port is missing; write ADDRESS:PORT"))?;
        Ok(Self {
            addr: parse_addr(addr)?,
            ports: parse_ports(ports)?,
        })
    }
}

impl FromStr for PublishArg {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let (rest, protocol) = split_protocol(text)?;
        let (host, endpoint) = rest.rsplit_once(':').ok_or_else(|| {
            Fault::new(
                "the endpoint's port is missing; write [IP:]PORT[-END]:CPORT[-END][/tcp|udp]",
            )
        })?;
        // `-p 127.0.0.1::80` has Docker choose a port; `-p :80` is no address and no port.
        if host.is_empty() || host.ends_with(':') {
            return Err(Fault::new("the host's port is missing; write PORT:CPORT"));
        }
        let arg = Self {
            host: host_ports(host, protocol)?,
            endpoint: parse_ports(endpoint)?,
        };
        same_length(arg.host.ports, arg.endpoint)?;
        Ok(arg)
    }
}

impl FromStr for HostPorts {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let (rest, protocol) = split_protocol(text)?;
        host_ports(rest, protocol)
    }
}

/// A port or a range of ports: `80`, `7000-7009`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_ports(text: &str) -> Result<PortRange, Fault> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (parse_port(first)?, parse_port(last)?),
        None => {
            let port = parse_port(text)?;
            (port, port)
        }
    };
    PortRange::new(first, last).ok_or_else(|| {
        Fault::new(format!(
            "the range {first}-{last} ends before it begins; write {last}-{first}"
        ))
    })
}

/// Refuses a pair of ranges that cannot be matched port by port.
///
/// # Errors
/// Both lengths.
pub fn same_length(listen: PortRange, to: PortRange) -> Result<(), Fault> {
    if listen.len() == to.len() {
        return Ok(());
    }
    let last = u32::from(to.first) + listen.len() - 1;
    let remedy = u16::try_from(last).ok().map_or_else(
        || "give both the same number of ports".to_owned(),
        |last| format!("lead to {}", Ports(PortRange { last, ..to })),
    );
    Err(Fault(format!(
        "{} {} cannot lead to {} {}; {remedy}",
        counted(listen),
        Ports(listen),
        counted(to),
        Ports(to),
    )))
}

fn counted(ports: PortRange) -> String {
    match ports.len() {
        1 => "port".to_owned(),
        many => format!("{many} ports"),
    }
}

fn split_protocol(text: &str) -> Result<(&str, Protocol), Fault> {
    let Some((rest, name)) = text.rsplit_once('/') else {
        return Ok((text, Protocol::Tcp));
    };
    Ok((rest, parse_protocol(name)?))
}

/// A protocol's name, in small or capital letters as Docker takes it.
///
/// # Errors
/// The names there are.
pub fn parse_protocol(name: &str) -> Result<Protocol, Fault> {
    [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find(|protocol| protocol.to_string().eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            Fault(format!(
                "protocol {} cannot be published; tcp and udp can",
                quoted(name)
            ))
        })
}

fn host_ports(text: &str, protocol: Protocol) -> Result<HostPorts, Fault> {
    let (addr, ports) = match text.rsplit_once(':') {
        None => (None, text),
        Some((addr, ports)) => (Some(parse_addr(addr)?), ports),
    };
    Ok(HostPorts {
        addr,
        ports: parse_ports(ports)?,
        protocol,
    })
}

/// An address as it stands before a port: IPv6 in brackets.
pub(crate) fn parse_addr(text: &str) -> Result<IpAddr, Fault> {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner
            .strip_suffix(']')
            .ok_or_else(|| Fault(format!("the bracket in {} is not closed", quoted(text))))?;
        let addr: Ipv6Addr = inner
            .parse()
            .map_err(|_| Fault(format!("{} is not an IPv6 address", quoted(inner))))?;
        return match addr.to_ipv4_mapped() {
            Some(v4) => Err(Fault(format!("{addr} is an IPv4 address; write {v4}"))),
            None => Ok(addr.into()),
        };
    }
    if text.is_empty() {
        return Err(Fault::new(
            "the address is missing; write 0.0.0.0 or [::] for every address",
        ));
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(addr)) => Ok(addr.into()),
        Ok(IpAddr::V6(addr)) => Err(Fault(format!(
            "an IPv6 address before a port stands in brackets: [{addr}]"
        ))),
        Err(_) if text.contains(':') => Err(Fault(format!(
            "{} is not an address; write IPv4 plainly and IPv6 in brackets, such as [2001:db8::1]",
            quoted(text)
        ))),
        Err(_) => Err(Fault(format!(
            "{} is not an IP address, and names are not looked up",
            quoted(text)
        ))),
    }
}

/// A port by itself.
pub(crate) fn parse_port(text: &str) -> Result<u16, Fault> {
    // `parse` alone would take "+80".
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault(if text.is_empty() {
            "the port is missing".to_owned()
        } else {
            format!("{} is not a port", quoted(text))
        }));
    }
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Fault(format!(
            "port {} is not between 1 and 65535",
            shortened(text)
        ))),
    }
}

/// Text from outside, made fit for one line of an error: quoted, control characters escaped, cut.
pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}

/// The text, or its beginning when it is long.
pub(crate) fn shortened(text: &str) -> String {
    const LONG: usize = 64;
    if text.chars().count() <= LONG {
        return text.to_owned();
    }
    text.chars().take(LONG).chain("...".chars()).collect()
}

/// Writes a range as it is read: `80`, `7000-7009`.
#[derive(Clone, Copy, Debug)]
pub struct Ports(
    /// The range.
    pub PortRange,
);

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortRange { first, last } = self.0;
        if first == last {
            write!(f, "{first}")
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

/// Writes an address as it stands before a port.
fn write_addr(f: &mut fmt::Formatter<'_>, addr: IpAddr) -> fmt::Result {
    match addr {
        IpAddr::V4(addr) => write!(f, "{addr}:"),
        IpAddr::V6(addr) => write!(f, "[{addr}]:"),
    }
}

impl fmt::Display for AddrPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_addr(f, self.addr)?;
        Ports(self.ports).fmt(f)
    }
}

impl fmt::Display for PublishArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPorts {
            addr,
            ports,
            protocol,
        } = self.host;
        if let Some(addr) = addr {
            write_addr(f, addr)?;
        }
        write!(f, "{}:{}/{protocol}", Ports(ports), Ports(self.endpoint))
    }
}

impl fmt::Display for HostPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(addr) = self.addr {
            write_addr(f, addr)?;
        }
        write!(f, "{}/{}", Ports(self.ports), self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write() {
        for (text, canonical) in [
            ("8080:80", "8080:80/tcp"),
            ("53:53/udp", "53:53/udp"),
            ("53:53/UDP", "53:53/udp"),
            ("127.0.0.1:5432:5432", "127.0.0.1:5432:5432/tcp"),
            (
                "203.0.113.2:7000-7009:7000-7009/tcp",
                "203.0.113.2:7000-7009:7000-7009/tcp",
            ),
            ("[::1]:80:80", "[::1]:80:80/tcp"),
            ("[2001:DB8:0::1]:80:80", "[2001:db8::1]:80:80/tcp"),
            ("7000-7000:80", "7000:80/tcp"),
            ("00080:80", "80:80/tcp"),
        ] {
            let arg: PublishArg = text.parse().unwrap();
            assert_eq!(arg.to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_it() {
        for (text, message) in [
            (
                "",
                "the endpoint's port is missing; write [IP:]PORT[-END]:CPORT[-END][/tcp|udp]",
            ),
            (
                "8080",
                "the endpoint's port is missing; write [IP:]PORT[-END]:CPORT[-END][/tcp|udp]",
            ),
            (":80", "the host's port is missing; write PORT:CPORT"),
            (
                "127.0.0.1::80",
                "the host's port is missing; write PORT:CPORT",
            ),
            ("127.0.0.1:80", "\"127.0.0.1\" is not a port"),
            ("8080:", "the port is missing"),
            ("8080:0", "port 0 is not between 1 and 65535"),
            ("99999:80", "port 99999 is not between 1 and 65535"),
            ("+80:80", "\"+80\" is not a port"),
            ("-80:80", "the port is missing"),
            ("٨٠:80", "\"٨٠\" is not a port"),
            (
                "80:80/sctp",
                "protocol \"sctp\" cannot be published; tcp and udp can",
            ),
            (
                "80:80/",
                "protocol \"\" cannot be published; tcp and udp can",
            ),
            (
                "7009-7000:80",
                "the range 7009-7000 ends before it begins; write 7000-7009",
            ),
            (
                "7000-7009:80",
                "10 ports 7000-7009 cannot lead to port 80; lead to 80-89",
            ),
            (
                "80:7000-7009",
                "port 80 cannot lead to 10 ports 7000-7009; lead to 7000",
            ),
            (
                "1-65535:2",
                "65535 ports 1-65535 cannot lead to port 2; give both the same number of ports",
            ),
            (
                "localhost:80:80",
                "\"localhost\" is not an IP address, and names are not looked up",
            ),
            (
                "::1:80:80",
                "an IPv6 address before a port stands in brackets: [::1]",
            ),
            ("[::1:80:80", "the bracket in \"[::1\" is not closed"),
            ("[1.2.3.4]:80:80", "\"1.2.3.4\" is not an IPv6 address"),
            (
                "[fe80::1%eth0]:80:80",
                "\"fe80::1%eth0\" is not an IPv6 address",
            ),
            (
                "[::ffff:192.0.2.1]:80:80",
                "::ffff:192.0.2.1 is an IPv4 address; write 192.0.2.1",
            ),
        ] {
            let fault = text.parse::<PublishArg>().unwrap_err();
            assert_eq!(fault.to_string(), message, "{text}");
        }
    }

    #[test]
    fn long_input_makes_a_short_error() {
        for text in [
            "9".repeat(1 << 20),
            "x".repeat(1 << 20),
            "\u{0}\n".repeat(9),
        ] {
            let fault = text.parse::<HostPorts>().unwrap_err().to_string();
            assert!(fault.len() < 200, "{fault}");
            assert!(!fault.contains(|c: char| c.is_control()), "{fault:?}");
        }
    }

    fn any_range() -> impl Strategy<Value = PortRange> {
        (1..=u16::MAX, 0u16..300).prop_map(|(first, more)| PortRange {
            first,
            last: first.saturating_add(more),
        })
    }

    fn any_addr() -> impl Strategy<Value = IpAddr> {
        any::<IpAddr>().prop_filter("mapped addresses are refused", |addr| {
            addr.to_canonical() == *addr
        })
    }

    fn any_protocol() -> impl Strategy<Value = Protocol> {
        prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            addr in any_addr(),
            every: bool,
            ports in any_range(),
            protocol in any_protocol(),
        ) {
            let host = HostPorts { addr: (!every).then_some(addr), ports, protocol };
            prop_assert_eq!(host.to_string().parse(), Ok(host));
            let publish = PublishArg { host, endpoint: ports };
            prop_assert_eq!(publish.to_string().parse(), Ok(publish));
            let pair = AddrPorts { addr, ports };
            prop_assert_eq!(pair.to_string().parse(), Ok(pair));
        }

        #[test]
        fn nothing_panics(text in "[0-9a-f:.\\[\\]/%+\\- tcpud\\PC]{0,40}") {
            let one_line = |fault: Fault| assert!(!fault.to_string().contains('\n'));
            text.parse::<PublishArg>().map_or_else(one_line, drop);
            text.parse::<HostPorts>().map_or_else(one_line, drop);
            text.parse::<AddrPorts>().map_or_else(one_line, drop);
        }
    }
}
