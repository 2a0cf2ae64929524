//! What a process of the host dialled, kept for as long as the socket may ask: the kernel sends it to the
//! endpoint directly, so only this remembers the address that the process believes to talk to.

use crate::family::{Addr4, Addr6, Address, Family};

/// How many dialled addresses are remembered, each family. The service takes out those of closed sockets. When full, the
/// one unused for longest makes room: `getpeername` then tells the endpoint's own address, and the connection outlives its
/// port.
pub const MAX_PEERS: u32 = 65_536;

/// A socket, and the endpoint that it was led to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey<F: Family> {
    /// The socket's cookie, its low half first. Two halves, so that the key has no padding in either family.
    pub cookie: [u32; 2],
    /// The endpoint's address.
    pub addr: F::Addr,
    /// The endpoint's port, host order.
    pub port: u16,
    /// Always 0: keys are compared as bytes.
    pub zero: u16,
}

/// The address and port that the process dialled.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer<F: Family> {
    /// The address.
    pub addr: F::Addr,
    /// The port, host order.
    pub port: u16,
    /// Always 0.
    pub zero: u16,
}

impl<F: Family> PeerKey<F> {
    /// The key of a socket and an endpoint.
    #[must_use]
    #[inline(always)]
    pub const fn new(cookie: u64, addr: F::Addr, port: u16) -> Self {
        Self {
            cookie: [cookie as u32, (cookie >> 32) as u32],
            addr,
            port,
            zero: 0,
        }
    }

    /// The socket's cookie.
    #[must_use]
    #[inline(always)]
    pub const fn socket(&self) -> u64 {
        let [low, high] = self.cookie;
        low as u64 | (high as u64) << 32
    }
}

/// The words of `::ffff:0:0/96` (RFC 4291, 2.5.5.2): an IPv4 address on an IPv6 socket.
const MAPPED: [u32; 3] = [0, 0, u32::from_be_bytes([0, 0, 0xff, 0xff]).to_be()];

impl Addr6 {
    /// The address of four words of memory.
    #[must_use]
    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = [
            words[0].to_ne_bytes(),
            words[1].to_ne_bytes(),
            words[2].to_ne_bytes(),
            words[3].to_ne_bytes(),
        ];
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// The IPv4 address that this one stands for, if it is mapped.
    #[must_use]
    #[inline(always)]
    pub fn mapped(&self) -> Option<Addr4> {
        let [a, b, c, v4] = self.quarters();
        ([a, b, c] == MAPPED).then_some(Addr4(v4.to_ne_bytes()))
    }

    /// The mapped address that stands for an IPv4 one.
    #[must_use]
    #[inline(always)]
    pub const fn from_mapped(addr: Addr4) -> Self {
        let [a, b, c] = MAPPED;
        Self::from_words([a, b, c, u32::from_ne_bytes(addr.0)])
    }
}

/// The address that a dialled one means to the host: an unspecified destination is the host itself
/// (net/ipv4/route.c, `ip_route_output_key_hash_rcu`).
#[must_use]
#[inline(always)]
pub fn meant<F: Family>(dialled: &F::Addr) -> F::Addr {
    if *dialled == F::Addr::UNSPECIFIED {
        F::LOOPBACK
    } else {
        *dialled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{V4, V6};

    #[test]
    fn mapped_there_and_back() {
        let v4 = Addr4([172, 17, 0, 2]);
        let v6 = Addr6::from_mapped(v4);
        let expected: core::net::Ipv6Addr = "::ffff:172.17.0.2".parse().unwrap();
        assert_eq!(core::net::Ipv6Addr::from(v6.0), expected);
        assert_eq!(Addr6::from_words(v6.quarters()), v6);
        assert_eq!(v6.mapped(), Some(v4));
        assert_eq!(V6::LOOPBACK.mapped(), None);
    }

    #[test]
    fn a_cookie_in_halves_is_the_same() {
        for cookie in [0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX - 1] {
            let key = PeerKey::<V4>::new(cookie, Addr4([172, 17, 0, 2]), 80);
            assert_eq!(key.socket(), cookie);
        }
    }

    #[test]
    fn the_unspecified_address_is_the_host_itself() {
        assert_eq!(meant::<V4>(&Addr4::UNSPECIFIED), Addr4([127, 0, 0, 1]));
        assert_eq!(meant::<V4>(&Addr4([192, 0, 2, 1])), Addr4([192, 0, 2, 1]));
    }
}
