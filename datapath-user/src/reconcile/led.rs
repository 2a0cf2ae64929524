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
use datapath_common::{
    family::{V4, V6},
    host::meant,
};

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

/// Ends the sockets that what was dialled does not lead to any more. `before` and `after` are what may have changed of
/// the ports that are published `now`. Says how many.
///
/// # Errors
/// When a map cannot be read, or the kernel does not end sockets (`CONFIG_INET_DIAG_DESTROY`).
pub fn end(tables: &Tables, before: &Ports, after: &Ports, now: &Ports) -> Result<u64> {
    let changes = Changes::between(before, after);
    if changes.gone.is_empty() && changes.fresh.is_empty() {
        return Ok(0);
    }
    let mut dialled = Dialled::new();
    note::<V4>(tables, &changes, &mut dialled)?;
    note::<V6>(tables, &changes, &mut dialled)?;
    if dialled.is_empty() {
        return Ok(0);
    }
    let sockets = Sockets::open()?;
    let mut ended = 0;
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for socket in sockets.connected(protocol)? {
            let at = canonical(socket.to);
            let Some(asked) = dialled.get(&(socket.cookie, at)) else {
                continue;
            };
            let leads = lead(now, *asked, protocol);
            let over = match protocol {
                Protocol::Tcp => changes.gone.contains(&at) && leads != Some(at),
                Protocol::Udp => leads.is_some_and(|to| to != at),
            };
            if over {
                sockets.end(&socket)?;
                ended += 1;
            }
        }
    }
    Ok(ended)
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

/// Notes what was dialled by sockets that a change may concern.
fn note<F: Tabled>(tables: &Tables, changes: &Changes, dialled: &mut Dialled) -> Result<()> {
    tables.peers::<F>()?.scan(|keys, peers| {
        for (key, peer) in keys.iter().zip(peers) {
            let at = canonical(SocketAddr::new(key.addr.into(), key.port));
            if changes.gone.contains(&at) || changes.fresh.contains(&peer.port) {
                let [low, high] = key.cookie.map(u64::from);
                let asked = SocketAddr::new(meant::<F>(&peer.addr).into(), peer.port);
                dialled.insert((low | high << 32, at), canonical(asked));
            }
        }
        Ok(())
    })
}

/// Where a dialled address and port lead: one on that very address before one on every address, as in the programs.
fn lead(now: &Ports, asked: SocketAddr, protocol: Protocol) -> Option<SocketAddr> {
    let every = match asked {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let on = |addr| Listen {
        addr,
        port: asked.port(),
        protocol,
    };
    let found = now.get(&on(asked.ip())).or_else(|| now.get(&on(every)));
    found.map(to)
}

fn to(port: &Publication) -> SocketAddr {
    canonical(SocketAddr::new(port.to, port.to_port))
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
    fn a_specific_address_comes_before_every_one() {
        let ports = ports(&[
            port("127.0.0.1:80", "172.17.0.3:80", Protocol::Tcp),
            port("0.0.0.0:80", "172.17.0.2:80", Protocol::Tcp),
        ]);
        for (asked, found) in [
            ("127.0.0.1:80", Some("172.17.0.3:80")),
            ("127.0.0.2:80", Some("172.17.0.2:80")),
            ("127.0.0.1:81", None),
            ("[::1]:80", None),
        ] {
            let led = lead(&ports, asked.parse().unwrap(), Protocol::Tcp);
            assert_eq!(led, found.map(|at| at.parse().unwrap()), "{asked}");
        }
    }
}
