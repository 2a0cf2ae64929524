//! Sockets of the host's own that listen on a published port: a port is not taken from a process in silence.
//!
//! Docker's own are none of these: `dockerd` holds every port that it gives out with a socket that never accepts, and
//! `docker-proxy` serves the same containers.

mod owners;
mod sockets;
mod tables;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    net::SocketAddr,
};

use self::sockets::Socket;
use crate::model::Listen;

/// Programs of Docker's that hold ports for it.
const DOCKER: [&str; 2] = ["dockerd", "docker-proxy"];

/// Who listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name and process; `None` where that may not be seen (that takes CAP_SYS_PTRACE, or no higher rights than
    /// one's own).
    process: Option<(String, u32)>,
    /// Its user.
    user: u32,
    /// Where it listens.
    addr: SocketAddr,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((name, pid)) => write!(f, "{name} (process {pid})")?,
            None => write!(f, "a process of user {}", self.user)?,
        }
        write!(f, ", which listens on {}", self.addr)
    }
}

/// How every objection begins, wherever it was made.
const HELD: &str = "held by ";

impl Holder {
    /// Why a port of its is not published, and what to do.
    #[must_use]
    pub fn objection(&self) -> String {
        format!("{HELD}{self}; stop it, or publish another port")
    }

    /// Whether a refusal is such an objection.
    #[must_use]
    pub fn is_objection(message: &str) -> bool {
        message.starts_with(HELD)
    }
}

/// The processes behind sockets, as far as they were looked for: going through all of them takes time.
#[derive(Clone, Debug, Default)]
pub struct Listeners(HashMap<u64, Option<(String, u32)>>);

impl Listeners {
    /// Which of these ports somebody listens on, and who. Docker's own sockets do not count.
    pub fn holders(&mut self, ports: impl Iterator<Item = Listen>) -> BTreeMap<Listen, Holder> {
        let ports: Vec<_> = ports.collect();
        let Some(first) = ports.first() else {
            return BTreeMap::new();
        };
        // The kernel picks those of one number itself; of several all are listed.
        let one = ports.iter().all(|port| port.port == first.port);
        let sockets = sockets::waiting(&ports, one.then_some(first.port));
        let mut by_port: HashMap<u16, Vec<&Socket>> = HashMap::new();
        for socket in &sockets {
            by_port.entry(socket.addr.port()).or_default().push(socket);
        }
        let near = |port: &Listen| by_port.get(&port.port).into_iter().flatten();
        let taken: Vec<(Listen, &Socket)> = ports
            .iter()
            .flat_map(|port| near(port).map(|socket| (*port, *socket)))
            .filter(|(port, socket)| socket.holds(port))
            .collect();
        if !one {
            let known: HashSet<_> = sockets.iter().map(|socket| socket.inode).collect();
            self.0.retain(|inode, _| known.contains(inode));
        }
        let mut taken_by = taken.iter().map(|(_, socket)| socket.inode);
        if taken_by.any(|inode| !self.0.contains_key(&inode)) {
            let mut found = owners::processes();
            for (_, socket) in &taken {
                let process = found.remove(&socket.inode);
                self.0.entry(socket.inode).or_insert(process);
            }
        }
        let mut holders = BTreeMap::new();
        for (port, socket) in taken {
            let process = self.0.get(&socket.inode).cloned().flatten();
            let name = process.as_ref().map(|(name, _)| name.as_str());
            if name.is_some_and(|name| DOCKER.contains(&name)) {
                continue;
            }
            holders.entry(port).or_insert(Holder {
                process,
                user: socket.user,
                addr: socket.addr,
            });
        }
        holders
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    use super::*;
    use crate::model::Protocol;

    fn listen(addr: SocketAddr, protocol: Protocol) -> Listen {
        Listen {
            addr: addr.ip(),
            port: addr.port(),
            protocol,
        }
    }

    #[test]
    fn this_process_is_named_for_what_it_holds() {
        let (tcp, udp) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        let (tcp, udp) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
        let mut listeners = Listeners::default();
        let every = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), tcp.port());
        let another: SocketAddr = ([127, 9, 9, 9], tcp.port()).into();
        for (port, held) in [
            (listen(tcp, Protocol::Tcp), true),
            (listen(every, Protocol::Tcp), true),
            (listen(another, Protocol::Tcp), false),
            (listen(tcp, Protocol::Udp), false),
        ] {
            let found = listeners.holders([port].into_iter());
            let names: Vec<_> = found.values().map(ToString::to_string).collect();
            assert_eq!(names.len(), usize::from(held), "{port}: {names:?}");
            let own = format!("(process {}), which listens on {tcp}", std::process::id());
            assert!(names.iter().all(|name| name.contains(&own)), "{names:?}");
        }
        let found = listeners.holders([listen(udp, Protocol::Udp)].into_iter());
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_socket_on_every_ipv6_address_holds_the_ipv4_port_too() {
        let six = TcpListener::bind("[::]:0").unwrap().local_addr().unwrap();
        let kept = TcpListener::bind("[::]:0").unwrap();
        let addr: SocketAddr = ([0; 4], kept.local_addr().unwrap().port()).into();
        let mut listeners = Listeners::default();
        let mut holds = |port: Listen| listeners.holders([port].into_iter()).len() == 1;
        assert!(holds(listen(addr, Protocol::Tcp)));
        let free: SocketAddr = ([0; 4], six.port()).into();
        assert!(!holds(listen(free, Protocol::Tcp)));
    }
}
