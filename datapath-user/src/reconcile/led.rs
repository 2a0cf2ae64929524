//! Connections of the host's own processes. Each was led to an endpoint when it was dialled, and the kernel does not ask
//! again; so what was dialled may lead elsewhere by now, and whoever has the endpoint's address next gets what is sent.
//!
//! A TCP connection ends with its port, as one from outside does. A UDP socket that is connected outlives that: it may
//! be sending to a container that is started anew at the address that it had. It ends when what it dialled leads to
//! somebody else, and its process, which is told so, dials again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::Result;
use datapath_common::family::{V4, V6};

use crate::{
    kernel::{
        sockets::Sockets,
        tables::{Tabled, Tables},
    },
    model::{Listen, Protocol, Publication},
};

/// Published ports, by where they listen.
pub type Ports = BTreeMap<Listen, Publication>;

/// What a socket dialled, by its cookie and the endpoint that it was led to.
type Dialled = HashMap<(u64, SocketAddr), SocketAddr>;

/// What changed about the ports.
#[derive(Debug, Default)]
struct Changes {
    /// Where ports of TCP lead no more that did.
    gone: BTreeSet<SocketAddr>,
    /// Ports of UDP that lead where they did not.
    fresh: BTreeSet<u16>,
}

/// How often it is looked again after a change. A call that was led just before is in none of the kernel's tables of
/// sockets before it has gone on to find a route and a port.
const AGAIN: u32 = 2;

/// Sees to it that sockets end.
#[derive(Debug, Default)]
pub struct Led {
    /// How often it is to be looked again.
    again: u32,
}

impl Led {
    /// Ends the sockets that what was dialled does not lead to any more. `before` and `after` are what may have changed of
    /// the ports that are published `now`. Says how many.
    ///
    /// # Errors
    /// When a map cannot be read, or the kernel does not end sockets (`CONFIG_INET_DIAG_DESTROY`). So with the others.
    pub fn end(
        &mut self,
        tables: &Tables,
        before: &Ports,
        after: &Ports,
        now: &Ports,
    ) -> Result<u64> {
        let Changes { gone, fresh } = Changes::between(before, after);
        if gone.is_empty() && fresh.is_empty() {
            return Ok(0);
        }
        self.again = AGAIN;
        end(tables, now, |at, asked| {
            gone.contains(&at) || fresh.contains(&asked.port())
        })
    }

    /// Looks again, some time after a change.
    ///
    /// # Errors
    /// As [`Self::end`].
    pub fn look_again(&mut self, tables: &Tables, now: &Ports) -> Result<u64> {
        if self.again == 0 {
            return Ok(0);
        }
        self.again -= 1;
        enforce(tables, now)
    }
}

/// Ends them whatever was changed. For the start: a service may have ended between a change and this.
///
/// # Errors
/// As [`Led::end`].
pub fn enforce(tables: &Tables, now: &Ports) -> Result<u64> {
    end(tables, now, |at, asked| {
        let mut protocols = [Protocol::Tcp, Protocol::Udp].into_iter();
        protocols.any(|protocol| is_over(now, asked, at, protocol))
    })
}

/// Ends those that are over, of the sockets that may be `concerned`: by the endpoint that they were led to, and by what
/// they dialled.
fn end(
    tables: &Tables,
    now: &Ports,
    concerned: impl Fn(SocketAddr, SocketAddr) -> bool,
) -> Result<u64> {
    let mut dialled = Dialled::new();
    note::<V4>(tables, &concerned, &mut dialled)?;
    note::<V6>(tables, &concerned, &mut dialled)?;
    if dialled.is_empty() {
        return Ok(0);
    }
    let sockets = Sockets::open()?;
    let (mut ended, mut result) = (0, Ok(()));
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for socket in sockets.connected(protocol)? {
            let at = canonical(socket.to);
            let Some(asked) = dialled.get(&(socket.cookie, at)) else {
                continue;
            };
            if is_over(now, *asked, at, protocol) {
                match sockets.end(&socket) {
                    Ok(()) => ended += 1,
                    // The others are to end all the same.
                    Err(error) => result = result.and(Err(error)),
                }
            }
        }
    }
    result?;
    Ok(ended)
}

/// Whether a socket that was led to `at` when it dialled is over: a connection with its port, whichever of the two it was;
/// a socket for datagrams when another is before it, too.
fn is_over(now: &Ports, asked: SocketAddr, at: SocketAddr, protocol: Protocol) -> bool {
    let [exact, every] = leads(now, asked, protocol);
    match protocol {
        Protocol::Tcp => exact != Some(at) && every != Some(at),
        Protocol::Udp => exact.or(every).is_some_and(|to| to != at),
    }
}

impl Changes {
    fn between(before: &Ports, after: &Ports) -> Self {
        let leads =
            |ports: &Ports, port: &Publication| ports.get(&port.listen).map(to) == Some(to(port));
        let of = |wanted| move |port: &&Publication| port.listen.protocol == wanted;
        let gone = before.values().filter(|port| !leads(after, port));
        let fresh = after.values().filter(|port| !leads(before, port));
        Self {
            gone: gone.filter(of(Protocol::Tcp)).map(to).collect(),
            fresh: fresh
                .filter(of(Protocol::Udp))
                .map(|port| port.listen.port)
                .collect(),
        }
    }
}

/// Notes what was dialled by sockets that may be concerned.
fn note<F: Tabled>(
    tables: &Tables,
    concerned: impl Fn(SocketAddr, SocketAddr) -> bool,
    dialled: &mut Dialled,
) -> Result<()> {
    tables.peers::<F>()?.scan(|keys, peers| {
        for (key, peer) in keys.iter().zip(peers) {
            let at = canonical(SocketAddr::new(key.addr.into(), key.port));
            let asked = meant(SocketAddr::new(peer.addr.into(), peer.port));
            if concerned(at, asked) {
                dialled.insert((key.socket(), at), asked);
            }
        }
        Ok(())
    })
}

/// Where a dialled address and port lead: by a port on that very address, which comes first in the programs, and by one on
/// every address.
fn leads(now: &Ports, asked: SocketAddr, protocol: Protocol) -> [Option<SocketAddr>; 2] {
    let every = match asked {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let on = |addr| Listen {
        addr,
        port: asked.port(),
        protocol,
    };
    [asked.ip(), every].map(|addr| now.get(&on(addr)).map(to))
}

fn to(port: &Publication) -> SocketAddr {
    canonical(SocketAddr::new(port.to, port.to_port))
}

/// What a dialled address means to the host, as to the programs: one that is none, its loopback.
fn meant(dialled: SocketAddr) -> SocketAddr {
    let dialled = canonical(dialled);
    let ip = match dialled.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, dialled.port())
}

/// An IPv4 address on an IPv6 socket is that IPv4 address.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Source;

    fn port(listen: &str, to: &str, protocol: Protocol) -> Publication {
        let (listen, to): (SocketAddr, SocketAddr) = (listen.parse().unwrap(), to.parse().unwrap());
        Publication {
            listen: Listen {
                addr: listen.ip(),
                port: listen.port(),
                protocol,
            },
            to: to.ip(),
            to_port: to.port(),
            allow: None,
            source: Source::Api,
            owner: "api".to_owned(),
        }
    }

    fn ports(ports: &[Publication]) -> Ports {
        ports
            .iter()
            .map(|port| (port.listen, port.clone()))
            .collect()
    }

    #[test]
    fn connections_end_with_their_port_and_sockets_with_another() {
        use Protocol::{Tcp, Udp};
        let stays = port("0.0.0.0:80", "172.17.0.2:80", Tcp);
        let tcp = |to| port("[::]:81", to, Tcp);
        let udp = |to| port("0.0.0.0:53", to, Udp);
        let before = ports(&[stays.clone(), tcp("172.17.0.2:81"), udp("172.17.0.2:53")]);
        let elsewhere = ports(&[stays.clone(), tcp("172.17.0.3:81"), udp("172.17.0.3:53")]);
        let moved = Changes::between(&before, &elsewhere);
        let withdrawn = Changes::between(&before, &ports(&[stays]));
        for changes in [&moved, &withdrawn] {
            assert_eq!(
                changes.gone,
                BTreeSet::from(["172.17.0.2:81".parse().unwrap()])
            );
        }
        assert_eq!(moved.fresh, BTreeSet::from([53]));
        assert!(withdrawn.fresh.is_empty());
        let same = Changes::between(&before, &before);
        assert!(same.gone.is_empty() && same.fresh.is_empty());
    }

    #[test]
    fn a_specific_address_comes_before_every_one_and_ends_no_connection() {
        use Protocol::{Tcp, Udp};
        let (first, second) = ("172.17.0.2:80", "172.17.0.3:80");
        for protocol in [Tcp, Udp] {
            let ports = ports(&[
                port("127.0.0.1:80", second, protocol),
                port("0.0.0.0:80", first, protocol),
            ]);
            for (asked, at, over) in [
                ("127.0.0.1:80", first, protocol == Udp),
                ("127.0.0.1:80", second, false),
                ("127.0.0.2:80", first, false),
                ("127.0.0.2:80", second, true),
                // A container that is started anew has its port again, and datagrams are for whoever that is.
                ("127.0.0.1:81", first, protocol == Tcp),
                ("[::1]:80", first, protocol == Tcp),
            ] {
                let [asked, at] = [asked, at].map(|addr| addr.parse().unwrap());
                let found = is_over(&ports, asked, at, protocol);
                assert_eq!(found, over, "{protocol} {asked} {at}");
            }
        }
    }
}
