//! Processes of the host that dial a published port: the call itself is led to the endpoint, so no packet has
//! to be translated at all, and a socket that listens on the port never sees the connection.
//!
//! The hooks sit on the root cgroup, so they see every container's calls too: only those of the host's own
//! network namespace are looked at. A call is never refused here; what is not ours goes on as it was.
//!
//! Compiler: what copies addresses is kept out of line, since LLVM's BPF back end crashes on the copies when
//! all of it is one function.

use datapath_common::{
    family::{Addr6, Address as _, V4, V6},
    host::{Peer, PeerKey, meant},
    proto,
};

use crate::{
    maps::{self, Maps, SETTINGS},
    nat::publish,
    socket::{Call, Named},
};

/// What these programs may answer: 1 lets the call go on.
const GO_ON: i32 = 1;

/// A family as dialled on a socket.
pub trait Dial: Maps + Named {
    /// Where the dialled address and port lead, if they are published.
    fn lead(addr: &Self::Addr, port: u16, protocol: u8) -> Option<Peer<Self>>;

    /// What the socket dialled when it was led to this endpoint.
    fn recall(cookie: u64, addr: &Self::Addr, port: u16) -> Option<Peer<Self>>;

    /// The socket was not led there this time, or nowhere.
    fn forget(cookie: u64, addr: &Self::Addr, port: u16);
}

impl Dial for V4 {
    #[inline(always)]
    fn lead(addr: &Self::Addr, port: u16, protocol: u8) -> Option<Peer<Self>> {
        published::<Self>(addr, port, protocol)
    }

    #[inline(always)]
    fn recall(cookie: u64, addr: &Self::Addr, port: u16) -> Option<Peer<Self>> {
        remembered::<Self>(cookie, addr, port)
    }

    #[inline(always)]
    fn forget(cookie: u64, addr: &Self::Addr, port: u16) {
        forgotten::<Self>(cookie, addr, port);
    }
}

impl Dial for V6 {
    #[inline(always)]
    fn lead(addr: &Self::Addr, port: u16, protocol: u8) -> Option<Peer<Self>> {
        match addr.mapped() {
            Some(v4) => published::<V4>(&v4, port, protocol).map(mapped),
            None => published::<Self>(addr, port, protocol),
        }
    }

    /// An IPv4 call on an IPv6 socket is remembered as one of IPv4.
    #[inline(always)]
    fn recall(cookie: u64, addr: &Self::Addr, port: u16) -> Option<Peer<Self>> {
        if let Some(peer) = remembered::<Self>(cookie, addr, port) {
            return Some(peer);
        }
        remembered::<V4>(cookie, &addr.mapped()?, port).map(mapped)
    }

    #[inline(always)]
    fn forget(cookie: u64, addr: &Self::Addr, port: u16) {
        forgotten::<Self>(cookie, addr, port);
        if let Some(v4) = addr.mapped() {
            forgotten::<V4>(cookie, &v4, port);
        }
    }
}

/// `connect`: leads the whole connection, or the socket's datagrams from now on. One that dials an endpoint itself talks
/// to nobody else, wherever it was led before.
#[inline(always)]
pub fn connect<F: Dial>(mut call: Call) -> i32 {
    if dial::<F>(&mut call, true).is_none() && is_of_host(&call) {
        F::forget(call.cookie(), &F::addr(&call), call.port());
    }
    GO_ON
}

/// `sendto` and `sendmsg`: leads one datagram. The kernel cannot send from IPv6 to a mapped address here
/// (net/ipv6/udp.c, `udpv6_sendmsg`), so such a datagram goes on as it was.
#[inline(always)]
pub fn sendmsg<F: Dial>(mut call: Call) -> i32 {
    let _ = dial::<F>(&mut call, false);
    GO_ON
}

/// `recvmsg` and `getpeername`: shows the address that was dialled, not the one it was led to.
#[inline(always)]
pub fn show<F: Dial>(mut call: Call) -> i32 {
    if is_of_host(&call)
        && let Some(peer) = F::recall(call.cookie(), &F::addr(&call), call.port())
    {
        F::set_addr(&mut call, &peer.addr);
        call.set_port(peer.port);
    }
    GO_ON
}

#[inline(always)]
fn dial<F: Dial>(call: &mut Call, may_map: bool) -> Option<()> {
    let protocol = call.protocol();
    if (protocol != proto::TCP && protocol != proto::UDP) || !is_of_host(call) {
        return None;
    }
    let dialled = Peer::<F> {
        addr: meant::<F>(&F::addr(call)),
        port: call.port(),
        zero: 0,
    };
    let to = F::lead(&dialled.addr, dialled.port, protocol)?;
    if !may_map && F::is_foreign(&to.addr) {
        return None;
    }
    remember(call.cookie(), &to, &dialled);
    F::set_addr(call, &to.addr);
    call.set_port(to.port);
    Some(())
}

/// Whether the socket is in the network namespace that the service serves.
#[inline(always)]
fn is_of_host(call: &Call) -> bool {
    SETTINGS
        .get(0)
        .is_some_and(|settings| settings.netns != 0 && settings.netns == call.netns())
}

/// Where an address of the host, loopback or its own, leads on this port.
#[inline(never)]
fn published<F: Maps>(dialled: &F::Addr, port: u16, protocol: u8) -> Option<Peer<F>> {
    let addr = meant::<F>(dialled);
    if !addr.is_loopback() && maps::local::<F>(&addr).is_none() {
        return None;
    }
    let binding = publish::binding::<F>(&addr, port, protocol)?;
    Some(Peer {
        addr: binding.to,
        port: binding.port,
        zero: 0,
    })
}

#[inline(always)]
fn mapped(peer: Peer<V4>) -> Peer<V6> {
    Peer {
        addr: Addr6::from_mapped(peer.addr),
        port: peer.port,
        zero: 0,
    }
}

/// Keeps what was dialled. Written only when it is news: a socket that sends many datagrams pays a lookup.
#[inline(never)]
fn remember<F: Maps>(cookie: u64, to: &Peer<F>, dialled: &Peer<F>) {
    if remembered::<F>(cookie, &to.addr, to.port) != Some(*dialled) {
        let key = PeerKey::<F>::new(cookie, to.addr, to.port);
        // Without room the socket is told the endpoint's own address: the call goes through all the same.
        let _ = F::peers().insert(key, dialled, 0);
    }
}

#[inline(never)]
fn forgotten<F: Maps>(cookie: u64, addr: &F::Addr, port: u16) {
    // Most sockets were never led, and have nothing to forget.
    let _ = F::peers().remove(PeerKey::<F>::new(cookie, *addr, port));
}

#[inline(never)]
fn remembered<F: Maps>(cookie: u64, addr: &F::Addr, port: u16) -> Option<Peer<F>> {
    // SAFETY: copied at once; the entry's memory outlives the program's run.
    unsafe { F::peers().get(PeerKey::<F>::new(cookie, *addr, port)) }.copied()
}
