//! From a pair "listen here, lead there" to one [`Publication`] for each port, with everything checked that
//! can be without looking at the host.

use std::net::IpAddr;

use datapath_common::{
    binding::Source,
    family::{Addr4, Addr6, Address as _},
};

use super::ports::{AddrPorts, Fault, same_length};
use crate::model::{AllowList, Listen, Protocol, Publication};

/// Which part is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairFault {
    /// Where it listens.
    Listen(Fault),
    /// Where it leads.
    To(Fault),
    /// Who may ask.
    Allow(Fault),
}

impl PairFault {
    /// What is wrong with it.
    #[must_use]
    pub fn fault(&self) -> &Fault {
        match self {
            Self::Listen(fault) | Self::To(fault) | Self::Allow(fault) => fault,
        }
    }
}

/// One publication for each port of the pair.
///
/// # Errors
/// The part that is wrong, and why.
pub fn expand(
    listen: &AddrPorts,
    to: &AddrPorts,
    protocol: Protocol,
    allow: Option<&AllowList>,
    (source, owner): (Source, &str),
) -> Result<Vec<Publication>, PairFault> {
    check_listen(listen.addr).map_err(PairFault::Listen)?;
    check_to(to.addr).map_err(PairFault::To)?;
    families(listen.addr, to.addr).map_err(PairFault::Listen)?;
    same_length(listen.ports, to.ports).map_err(PairFault::To)?;
    let allow = allow
        .map(|list| for_port(list, listen.addr))
        .transpose()
        .map_err(PairFault::Allow)?;
    let ports = listen.ports.first..=listen.ports.last;
    let to_ports = to.ports.first..=to.ports.last;
    let publications = ports.zip(to_ports).map(|(port, to_port)| Publication {
        listen: Listen {
            addr: listen.addr,
            port,
            protocol,
        },
        to: to.addr,
        to_port,
        allow: allow.clone(),
        source,
        owner: owner.to_owned(),
    });
    Ok(publications.collect())
}

/// The listening places of a range.
pub fn expand_listen(
    listen: &AddrPorts,
    protocol: Protocol,
) -> impl Iterator<Item = Listen> + use<> {
    let addr = listen.addr;
    (listen.ports.first..=listen.ports.last).map(move |port| Listen {
        addr,
        port,
        protocol,
    })
}

/// What of a list concerns a port at this address.
///
/// # Errors
/// When that is nothing: nobody could ever ask.
pub fn for_port(list: &AllowList, listen: IpAddr) -> Result<AllowList, Fault> {
    let list = list.for_family_of(listen);
    if list.is_empty() {
        let family = if listen.is_ipv4() { "IPv4" } else { "IPv6" };
        return Err(Fault(format!(
            "names no {family} network, but the port listens on {family}: nobody could ask; add one"
        )));
    }
    Ok(list)
}

fn check_listen(addr: IpAddr) -> Result<(), Fault> {
    if addr.is_unspecified() || addr.is_loopback() || is_unicast(addr) {
        return Ok(());
    }
    Err(Fault(format!(
        "{addr} is not an address that a host can have"
    )))
}

fn check_to(addr: IpAddr) -> Result<(), Fault> {
    let message = match addr {
        _ if addr.is_unspecified() => "an endpoint has one address; name it",
        _ if addr.is_loopback() => {
            "a loopback address is on every machine and leads nowhere; name the endpoint's own"
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            "a link-local address says nothing without its link; name a global or unique local one"
        }
        _ if is_unicast(addr) => return Ok(()),
        IpAddr::V4(_) | IpAddr::V6(_) => {
            "a multicast, broadcast or reserved address is nobody's own; name the endpoint's"
        }
    };
    Err(Fault::new(message))
}

fn is_unicast(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => Addr4(v4.octets()).is_unicast(),
        IpAddr::V6(v6) => Addr6(v6.octets()).is_unicast(),
    }
}

/// An IPv6 port may lead to an IPv4 endpoint (the host's own sockets speak both), not the other way.
fn families(listen: IpAddr, to: IpAddr) -> Result<(), Fault> {
    if listen.is_ipv4() && to.is_ipv6() {
        return Err(Fault::new(
            "listens on IPv4 but leads to an IPv6 endpoint, and nothing translates between the two; \
             listen on [::] or on an IPv6 address",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(listen: &str, to: &str) -> Result<Vec<Publication>, PairFault> {
        let (listen, to) = (listen.parse().unwrap(), to.parse().unwrap());
        expand(&listen, &to, Protocol::Tcp, None, (Source::File, "file"))
    }

    #[test]
    fn a_range_is_matched_port_by_port() {
        let all = pair("0.0.0.0:7000-7002", "172.17.0.2:80-82").unwrap();
        let pairs: Vec<_> = all.iter().map(|p| (p.listen.port, p.to_port)).collect();
        assert_eq!(pairs, [(7000, 80), (7001, 81), (7002, 82)]);
        let last = pair("[::]:65535", "[2001:db8::2]:65535").unwrap();
        assert_eq!(last.len(), 1);
        let every = pair("0.0.0.0:1-65535", "172.17.0.2:1-65535").unwrap();
        assert_eq!(every.len(), 65_535);
    }

    #[test]
    fn addresses_that_make_no_sense() {
        for (listen, to, side) in [
            ("224.0.0.1:80", "172.17.0.2:80", "listen"),
            ("255.255.255.255:80", "172.17.0.2:80", "listen"),
            ("0.0.0.1:80", "172.17.0.2:80", "listen"),
            ("[ff02::1]:80", "[2001:db8::2]:80", "listen"),
            ("0.0.0.0:80", "[2001:db8::2]:80", "listen"),
            ("0.0.0.0:80", "127.0.0.1:80", "to"),
            ("0.0.0.0:80", "0.0.0.0:80", "to"),
            ("0.0.0.0:80", "239.1.1.1:80", "to"),
            ("[::]:80", "[::1]:80", "to"),
            ("[::]:80", "[::]:80", "to"),
            ("[::]:80", "[fe80::1]:80", "to"),
            ("0.0.0.0:80-81", "172.17.0.2:80", "to"),
        ] {
            let blamed = match pair(listen, to).unwrap_err() {
                PairFault::Listen(_) => "listen",
                PairFault::To(_) => "to",
                PairFault::Allow(_) => "allow",
            };
            assert_eq!(blamed, side, "{listen} -> {to}");
        }
        assert!(pair("[::]:80", "172.17.0.2:80").is_ok());
        for listen in [
            "127.0.0.1:80",
            "127.0.0.53:53",
            "203.0.113.2:80",
            "0.0.0.0:80",
        ] {
            assert!(pair(listen, "172.17.0.2:80").is_ok(), "{listen}");
        }
    }
}
