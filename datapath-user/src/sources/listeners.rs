//! Sockets of the host's own that listen on a published port: a port is not taken from a process in silence.
//!
//! Docker's own are none of these: `dockerd` holds every port that it gives out with a socket that never accepts, and
//! `docker-proxy` serves the same containers.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
};

use crate::model::{Listen, Protocol};

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
        if ports.is_empty() {
            return BTreeMap::new();
        }
        let sockets = sockets();
        let mut by_port: HashMap<u16, Vec<&Socket>> = HashMap::new();
        for socket in &sockets {
            by_port.entry(socket.addr.port()).or_default().push(socket);
        }
        let holder = |port: &Listen| {
            let mut near = by_port.get(&port.port)?.iter();
            near.find(|socket| socket.holds(port)).copied()
        };
        let taken: Vec<_> = ports
            .into_iter()
            .filter_map(|port| Some((port, holder(&port)?)))
            .collect();
        self.0
            .retain(|inode, _| sockets.iter().any(|socket| socket.inode == *inode));
        if taken
            .iter()
            .any(|(_, socket)| !self.0.contains_key(&socket.inode))
        {
            let mut found = processes();
            for (_, socket) in &taken {
                self.0.insert(socket.inode, found.remove(&socket.inode));
            }
        }
        let holders = taken.into_iter().map(|(port, socket)| {
            let process = self.0.get(&socket.inode).cloned().flatten();
            let (user, addr) = (socket.user, socket.addr);
            (
                port,
                Holder {
                    process,
                    user,
                    addr,
                },
            )
        });
        holders
            .filter(|(_, holder)| {
                let name = holder.process.as_ref().map(|(name, _)| name.as_str());
                !name.is_some_and(|name| DOCKER.contains(&name))
            })
            .collect()
    }
}

/// A socket that waits for whoever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    addr: SocketAddr,
    protocol: Protocol,
    user: u32,
    inode: u64,
}

impl Socket {
    /// Whether it would get what is for a port: on the same address, or either on every one.
    fn holds(&self, port: &Listen) -> bool {
        let (own, other) = (self.addr.ip(), port.addr);
        if self.protocol != port.protocol || self.addr.port() != port.port {
            return false;
        }
        if own.is_ipv4() == other.is_ipv4() {
            return own == other || own.is_unspecified() || other.is_unspecified();
        }
        // A socket on [::] has IPv4 as well, unless it says otherwise, which only the kernel knows.
        own == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && is_taken(port)
    }
}

/// Whether the kernel lets nobody else have a port.
fn is_taken(port: &Listen) -> bool {
    let addr = SocketAddr::new(port.addr, port.port);
    let error = match port.protocol {
        // With SO_REUSEADDR: only one that listens is in the way.
        Protocol::Tcp => TcpListener::bind(addr).err(),
        Protocol::Udp => UdpSocket::bind(addr).err(),
    };
    error.is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// All such sockets of this network namespace.
fn sockets() -> Vec<Socket> {
    const LISTEN: &str = "0A";
    const UNCONNECTED: &str = "07";
    let mut all = Vec::new();
    for (table, protocol, state) in [
        ("tcp", Protocol::Tcp, LISTEN),
        ("tcp6", Protocol::Tcp, LISTEN),
        ("udp", Protocol::Udp, UNCONNECTED),
        ("udp6", Protocol::Udp, UNCONNECTED),
    ] {
        let text = fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
        let lines = text.lines().skip(1);
        all.extend(lines.filter_map(|line| socket(line, protocol, state)));
    }
    all
}

/// A line of /proc/net/tcp and its like (net/ipv4/tcp_ipv4.c, `get_tcp4_sock`).
fn socket(line: &str, protocol: Protocol, wanted: &str) -> Option<Socket> {
    let mut words = line.split_whitespace();
    let local = words.nth(1)?;
    let state = words.nth(1)?;
    let (user, inode) = (words.nth(3)?, words.nth(1)?);
    let (addr, port) = local.split_once(':')?;
    let addr = SocketAddr::new(address(addr)?, u16::from_str_radix(port, 16).ok()?);
    (state == wanted).then_some(Socket {
        addr,
        protocol,
        user: user.parse().ok()?,
        inode: inode.parse().ok()?,
    })
}

/// Words of memory in hexadecimal.
fn address(text: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = text.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let octets: [u8; 16] = words.as_flattened().try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// The processes that have sockets, by the socket's inode: as many as may be looked at.
fn processes() -> HashMap<u64, (String, u32)> {
    let mut found = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse().ok()) else {
            continue;
        };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let mut name = None;
        for file in files.flatten() {
            let Ok(link) = fs::read_link(file.path()) else {
                continue;
            };
            let link = link.to_string_lossy();
            let inode = link
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()) {
                let name = name.get_or_insert_with(|| comm(&entry.path()));
                found.insert(inode, (name.clone(), pid));
            }
        }
    }
    found
}

/// A process's name, fit to be shown: it chose it itself.
fn comm(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    name.trim_end().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn lines_of_the_kernels_tables() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101 0 12345 1";
        let found = socket(line, Protocol::Tcp, "0A").unwrap();
        assert_eq!((found.user, found.inode), (101, 12345));
        assert_eq!(found.addr, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(socket(line, Protocol::Tcp, "07"), None);
        let six = "00000000000000000000000001000000";
        assert_eq!(address(six), Some("::1".parse().unwrap()));
        assert_eq!(socket("nonsense", Protocol::Tcp, "0A"), None);
    }
}
