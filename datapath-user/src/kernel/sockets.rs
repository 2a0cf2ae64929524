//! Sockets of the host's own that are connected to somebody (sock_diag(7)): seen, and ended.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    net::SocketAddr,
};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NetlinkMessage};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, SockDiagDestroy, SockDiagMessage,
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags},
};
use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};

use super::netlink;
use crate::model::Protocol;

/// The sockets of the network namespace that this thread is in.
pub struct Sockets(Socket);

/// One that is connected.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The kernel's number for it, which no other socket will ever have.
    pub cookie: u64,
    /// Where it is itself.
    pub from: SocketAddr,
    /// Whom it is connected to, as the kernel sees it.
    pub to: SocketAddr,
    family: u8,
    protocol: Protocol,
    id: SocketId,
}

impl Sockets {
    /// Opens the way to them.
    ///
    /// # Errors
    /// When the kernel refuses. So with the others below.
    pub fn open() -> io::Result<Self> {
        netlink::connect(NETLINK_SOCK_DIAG).map(Self)
    }

    /// All that are connected, or about to be, by both families.
    #[expect(clippy::missing_errors_doc, reason = "as `open`")]
    pub fn connected(&self, protocol: Protocol) -> io::Result<Vec<Connected>> {
        let mut all = Vec::new();
        self.each(protocol, &CONNECTED, 0, |found| {
            all.push(connected(protocol, found));
        })?;
        Ok(all)
    }

    /// The TCP connections to these ports that a socket listened for and no process has accepted.
    #[expect(clippy::missing_errors_doc, reason = "as `open`")]
    pub fn unaccepted(&self, ports: &BTreeSet<u16>) -> io::Result<Vec<Connected>> {
        // There are few that listen; the queue of those is the number of these (net/ipv4/tcp_diag.c).
        let listeners = self.of_both(Protocol::Tcp, &StateFlags::LISTEN, 0)?;
        let waiting = listeners
            .iter()
            .filter(|socket| socket.header.recv_queue > 0);
        let waiting: BTreeSet<_> = waiting
            .map(|socket| socket.header.socket_id.source_port)
            .filter(|port| ports.contains(port))
            .collect();
        let mut all = Vec::new();
        for port in waiting {
            let states = StateFlags::ESTABLISHED | StateFlags::CLOSE_WAIT;
            let found = self.of_both(Protocol::Tcp, &states, port)?;
            // What a process has, or had in these states, has an inode.
            let unaccepted = found.iter().filter(|socket| socket.header.inode == 0);
            all.extend(unaccepted.map(|found| connected(Protocol::Tcp, found)));
        }
        Ok(all)
    }

    /// The same, all at once.
    fn of_both(
        &self,
        protocol: Protocol,
        states: &StateFlags,
        port: u16,
    ) -> io::Result<Vec<InetResponse>> {
        let mut all = Vec::new();
        self.each(protocol, states, port, |found| all.push(found.clone()))?;
        Ok(all)
    }

    /// The cookies of all that are connected, or have yet to be.
    #[expect(clippy::missing_errors_doc, reason = "as `open`")]
    pub fn cookies(&self) -> io::Result<HashSet<u64>> {
        let mut all = HashSet::new();
        // Of UDP: whoever is not connected.
        let states = CONNECTED | StateFlags::CLOSE;
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            self.each(protocol, &states, 0, |found| {
                all.insert(cookie(found));
            })?;
        }
        Ok(all)
    }

    /// Shows all in these states, by both families, on one port or, for 0, on any.
    fn each(
        &self,
        protocol: Protocol,
        states: &StateFlags,
        port: u16,
        mut visit: impl FnMut(&InetResponse),
    ) -> io::Result<()> {
        for (family, any) in [
            (AF_INET, SocketId::new_v4()),
            (AF_INET6, SocketId::new_v6()),
        ] {
            let id = SocketId {
                source_port: port,
                ..any
            };
            let request = question(family, protocol, states.clone(), id);
            let request = NetlinkMessage::from(SockDiagMessage::InetRequest(request));
            netlink::each(&self.0, request, NLM_F_DUMP, |answer| {
                if let SockDiagMessage::InetResponse(found) = answer {
                    visit(&found);
                }
            })?;
        }
        Ok(())
    }

    /// Ends one: its process is told `ECONNABORTED`, and whoever it was connected to by TCP gets a reset
    /// (net/ipv4/tcp.c, `tcp_abort`; net/ipv4/udp.c, `udp_abort`). One that is gone already is gone.
    #[expect(clippy::missing_errors_doc, reason = "as `open`")]
    pub fn end(&self, socket: &Connected) -> io::Result<()> {
        let id = socket.id.clone();
        let request = question(socket.family, socket.protocol, CONNECTED, id);
        let request = SockDiagDestroy::new(SockDiagMessage::InetRequest(request));
        match netlink::ask(&self.0, NetlinkMessage::from(request), NLM_F_ACK) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Whoever may yet send or be sent something.
const CONNECTED: StateFlags = StateFlags::ESTABLISHED
    .union(StateFlags::SYN_SENT)
    .union(StateFlags::FIN_WAIT1)
    .union(StateFlags::FIN_WAIT2)
    .union(StateFlags::CLOSE_WAIT);

fn question(
    family: u8,
    protocol: Protocol,
    states: StateFlags,
    socket_id: SocketId,
) -> InetRequest {
    InetRequest {
        family,
        protocol: protocol.number(),
        extensions: ExtensionFlags::empty(),
        states,
        socket_id,
    }
}

fn connected(protocol: Protocol, found: &InetResponse) -> Connected {
    let id = found.header.socket_id.clone();
    Connected {
        cookie: cookie(found),
        from: SocketAddr::new(id.source_address, id.source_port),
        to: SocketAddr::new(id.destination_address, id.destination_port),
        family: found.header.family,
        protocol,
        id,
    }
}

fn cookie(found: &InetResponse) -> u64 {
    u64::from_ne_bytes(found.header.socket_id.cookie)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{TcpListener, TcpStream, UdpSocket},
    };

    use super::*;

    /// Finds the socket between these two, and no other.
    fn only(sockets: &Sockets, protocol: Protocol, to: SocketAddr, from: u16) -> Connected {
        let all = sockets.connected(protocol).expect("the sockets");
        let mut found = all
            .into_iter()
            .filter(|socket| socket.to == to && socket.id.source_port == from);
        let one = found.next().expect("the socket");
        assert!(found.next().is_none());
        one
    }

    #[test]
    fn what_is_connected_is_seen_with_its_other_end() {
        let sockets = Sockets::open().expect("sock_diag");
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(any).unwrap();
            let to = listener.local_addr().unwrap();
            let stream = TcpStream::connect(to).unwrap();
            let own = stream.local_addr().unwrap().port();
            only(&sockets, Protocol::Tcp, to, own);
            let server = UdpSocket::bind(any).unwrap();
            let to = server.local_addr().unwrap();
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(to).unwrap();
            let own = socket.local_addr().unwrap().port();
            only(&sockets, Protocol::Udp, to, own);
            let all = sockets.connected(Protocol::Udp).unwrap();
            assert!(all.iter().all(|socket| socket.id.source_port != to.port()));
        }
    }

    #[test]
    fn what_nobody_accepts_is_seen_until_somebody_does_and_can_be_ended() {
        let sockets = Sockets::open().expect("sock_diag");
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(any).unwrap();
            let at = listener.local_addr().unwrap();
            let ports = BTreeSet::from([at.port()]);
            let seen = || sockets.unaccepted(&ports).expect("the queue");
            let (first, mut second) = (
                TcpStream::connect(at).unwrap(),
                TcpStream::connect(at).unwrap(),
            );
            let peers = |seen: Vec<Connected>| -> BTreeSet<_> {
                seen.iter().map(|one| (one.from, one.to)).collect()
            };
            let ends = |stream: &TcpStream| (at, stream.local_addr().unwrap());
            assert_eq!(peers(seen()), BTreeSet::from([ends(&first), ends(&second)]));
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(peers(seen()), BTreeSet::from([ends(&second)]));
            for one in seen() {
                sockets.end(&one).expect("SOCK_DESTROY, as root");
            }
            let error = second.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            drop(accepted);
        }
    }
}
