//! Sockets of the host's own processes that are connected to somebody (sock_diag(7)): seen, and ended.

use std::{io, net::SocketAddr};

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
        for (family, any) in [
            (AF_INET, SocketId::new_v4()),
            (AF_INET6, SocketId::new_v6()),
        ] {
            let request = SockDiagMessage::InetRequest(question(family, protocol, any));
            let answers = netlink::ask(&self.0, NetlinkMessage::from(request), NLM_F_DUMP)?;
            all.extend(answers.into_iter().filter_map(|answer| match answer {
                SockDiagMessage::InetResponse(found) => Some(connected(protocol, &found)),
                SockDiagMessage::InetRequest(_)
                | SockDiagMessage::UnixRequest(_)
                | SockDiagMessage::UnixResponse(_) => None,
            }));
        }
        Ok(all)
    }

    /// Ends one: its process is told `ECONNABORTED`, and whoever it was connected to by TCP gets a reset
    /// (net/ipv4/tcp.c, `tcp_abort`; net/ipv4/udp.c, `udp_abort`). One that is gone already is gone.
    #[expect(clippy::missing_errors_doc, reason = "as `open`")]
    pub fn end(&self, socket: &Connected) -> io::Result<()> {
        let request = question(socket.family, socket.protocol, socket.id.clone());
        let request = SockDiagDestroy::new(SockDiagMessage::InetRequest(request));
        match netlink::ask(&self.0, NetlinkMessage::from(request), NLM_F_ACK) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

fn question(family: u8, protocol: Protocol, socket_id: SocketId) -> InetRequest {
    InetRequest {
        family,
        protocol: protocol.number(),
        extensions: ExtensionFlags::empty(),
        states: StateFlags::ESTABLISHED
            | StateFlags::SYN_SENT
            | StateFlags::FIN_WAIT1
            | StateFlags::CLOSE_WAIT,
        socket_id,
    }
}

fn connected(protocol: Protocol, found: &InetResponse) -> Connected {
    let id = found.header.socket_id.clone();
    Connected {
        cookie: u64::from_ne_bytes(id.cookie),
        to: SocketAddr::new(id.destination_address, id.destination_port),
        family: found.header.family,
        protocol,
        id,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

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
}
