//! The same by /proc/net/tcp and its like, for a kernel that cannot be asked.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::sockets::Socket;
use crate::model::Protocol;

/// All such sockets of a protocol in this network namespace.
pub(super) fn read(protocol: Protocol) -> Vec<Socket> {
    let mut all = Vec::new();
    for family in ["", "6"] {
        let table = format!("/proc/thread-self/net/{protocol}{family}");
        let text = fs::read_to_string(table).unwrap_or_default();
        let lines = text.lines().skip(1);
        all.extend(lines.filter_map(|line| socket(line, protocol)));
    }
    all
}

/// A line of them (net/ipv4/tcp_ipv4.c, `get_tcp4_sock`).
fn socket(line: &str, protocol: Protocol) -> Option<Socket> {
    // `TCP_LISTEN` of include/net/tcp_states.h, and what a UDP socket that is not connected has instead.
    let waits = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    let mut words = line.split_whitespace();
    let local = words.nth(1)?;
    let state = words.nth(1)?;
    let (user, inode) = (words.nth(3)?, words.nth(1)?);
    let (addr, port) = local.split_once(':')?;
    let addr = address(addr)?.to_canonical();
    let addr = SocketAddr::new(addr, u16::from_str_radix(port, 16).ok()?);
    (state == waits).then_some(Socket {
        addr,
        protocol,
        user: user.parse().ok()?,
        inode: inode.parse().ok()?,
        both: None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernels_tables() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101 0 12345 1";
        let found = socket(line, Protocol::Tcp).unwrap();
        assert_eq!((found.user, found.inode), (101, 12345));
        assert_eq!(found.addr, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(socket(line, Protocol::Udp), None);
        let six = "00000000000000000000000001000000";
        assert_eq!(address(six), Some("::1".parse().unwrap()));
        assert_eq!(socket("nonsense", Protocol::Tcp), None);
    }
}
