//! Sockets that wait for whoever comes, by the kernel's own word (sock_diag(7)): it goes through those alone, where
//! reading /proc/net/tcp takes it through every place that a connection might have.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use netlink_packet_core::{NLM_F_DUMP, NetlinkMessage};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, SockDiagMessage,
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::{Socket as Netlink, protocols::NETLINK_SOCK_DIAG};

use super::tables;
use crate::{
    kernel::netlink,
    model::{Listen, Protocol},
};

/// A socket that waits for whoever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) addr: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) user: u32,
    pub(super) inode: u64,
    /// On [::], and IPv4's as well; `None` where that was not said.
    pub(super) both: Option<bool>,
}

impl Socket {
    /// Whether it would get what is for a port: on the same address, or either on every one.
    pub(super) fn holds(&self, port: &Listen) -> bool {
        let (own, other) = (self.addr.ip(), port.addr);
        if self.protocol != port.protocol || self.addr.port() != port.port {
            return false;
        }
        if own.is_ipv4() == other.is_ipv4() {
            return own == other || own.is_unspecified() || other.is_unspecified();
        }
        own == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && self.both.unwrap_or_else(|| is_taken(port))
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

/// The sockets of this network namespace that wait, of the protocols of these ports, on one port or on all.
pub(super) fn waiting(ports: &[Listen], one: Option<u16>) -> Vec<Socket> {
    let asked = |protocol: &Protocol| ports.iter().any(|port| port.protocol == *protocol);
    [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .filter(asked)
        // A kernel may have been built without.
        .flat_map(|protocol| ask(protocol, one).unwrap_or_else(|_| tables::read(protocol)))
        .collect()
}

/// Those of a protocol.
fn ask(protocol: Protocol, one: Option<u16>) -> io::Result<Vec<Socket>> {
    let kernel = netlink::connect(NETLINK_SOCK_DIAG)?;
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6] {
        all.extend(ask_family(&kernel, family, protocol, one)?);
    }
    Ok(all)
}

fn ask_family(
    kernel: &Netlink,
    family: u8,
    protocol: Protocol,
    one: Option<u16>,
) -> io::Result<impl Iterator<Item = Socket>> {
    let request = InetRequest {
        family,
        protocol: protocol.number(),
        extensions: ExtensionFlags::empty(),
        states: match protocol {
            Protocol::Tcp => StateFlags::LISTEN,
            // What a UDP socket has that is not connected.
            Protocol::Udp => StateFlags::CLOSE,
        },
        socket_id: SocketId {
            // None is 0, which asks for all.
            source_port: one.unwrap_or(0),
            ..SocketId::new_v6()
        },
    };
    let request = NetlinkMessage::from(SockDiagMessage::InetRequest(request));
    let answers = netlink::ask(kernel, request, NLM_F_DUMP)?;
    Ok(answers.into_iter().filter_map(move |answer| match answer {
        SockDiagMessage::InetResponse(said) => Some(socket(&said, protocol)),
        SockDiagMessage::InetRequest(_)
        | SockDiagMessage::UnixRequest(_)
        | SockDiagMessage::UnixResponse(_) => None,
    }))
}

fn socket(said: &InetResponse, protocol: Protocol) -> Socket {
    let id = &said.header.socket_id;
    let only = said.nlas.iter().find_map(|attribute| {
        if let Nla::SkV6Only(only) = attribute {
            Some(*only)
        } else {
            None
        }
    });
    Socket {
        // An IPv4 address, mapped, is IPv4's.
        addr: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
        protocol,
        user: said.header.uid,
        inode: said.header.inode.into(),
        both: only.map(|only| !only),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_word_and_its_tables_say_the_same() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let six = TcpListener::bind("[::]:0").unwrap();
        let mapped = TcpListener::bind("[::ffff:127.0.0.1]:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        for (addr, protocol) in [
            (tcp.local_addr().unwrap(), Protocol::Tcp),
            (six.local_addr().unwrap(), Protocol::Tcp),
            (mapped.local_addr().unwrap(), Protocol::Tcp),
            (udp.local_addr().unwrap(), Protocol::Udp),
        ] {
            let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
            let ours = |socket: &Socket| socket.addr == addr;
            let asked = ask(protocol, Some(addr.port())).unwrap();
            assert_eq!(
                asked.iter().filter(|socket| ours(socket)).count(),
                1,
                "{addr}"
            );
            assert!(asked.iter().all(|socket| socket.addr.port() == addr.port()));
            let asked = asked.into_iter().find(ours).unwrap();
            let all = ask(protocol, None).unwrap();
            assert_eq!(all.into_iter().find(ours), Some(asked), "{addr}");
            let read = tables::read(protocol).into_iter().find(ours).unwrap();
            assert_eq!(
                Socket {
                    both: None,
                    ..asked
                },
                read
            );
            assert!(addr.ip() != Ipv6Addr::UNSPECIFIED || asked.both == Some(true));
        }
    }
}
