//! A call of a socket, as the cgroup hooks show it: the address that a process named, which may be replaced.

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    programs::SockAddrContext,
};
use datapath_common::family::{Addr4, Addr6, Family, V4, V6};

/// A call under way.
pub struct Call {
    ctx: SockAddrContext,
}

/// The part of the kernel's context that differs between the families.
pub trait Named: Family {
    /// The address in the call.
    fn addr(call: &Call) -> Self::Addr;
    /// Replaces it.
    fn set_addr(call: &mut Call, addr: &Self::Addr);
}

impl Call {
    /// Wraps the context that the kernel hands in.
    #[inline(always)]
    pub fn new(ctx: SockAddrContext) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    fn raw(&self) -> *mut bpf_sock_addr {
        self.ctx.sock_addr
    }

    /// The network namespace of the socket: the same number for the same namespace, and 0 for none.
    #[inline(always)]
    pub fn netns(&self) -> u64 {
        // SAFETY: takes the context, returns a number.
        unsafe { bpf_get_netns_cookie(self.ctx.as_ptr()) }
    }

    /// The socket: the same number for as long as it lives, and never again.
    #[inline(always)]
    pub fn cookie(&self) -> u64 {
        // SAFETY: as above.
        unsafe { bpf_get_socket_cookie(self.ctx.as_ptr()) }
    }

    /// The protocol number.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        // SAFETY: the kernel's context; the verifier turns the access into one of the socket.
        unsafe { (*self.raw()).protocol as u8 }
    }

    /// The port in the call, host order.
    #[inline(always)]
    pub fn port(&self) -> u16 {
        // SAFETY: as above.
        u16::from_be(unsafe { (&raw const (*self.raw()).user_port).read_volatile() } as u16)
    }

    /// Replaces it.
    #[inline(always)]
    pub fn set_port(&mut self, port: u16) {
        // SAFETY: as above; the field may be written.
        unsafe { (&raw mut (*self.raw()).user_port).write_volatile(u32::from(port.to_be())) }
    }
}

impl Named for V4 {
    #[inline(always)]
    fn addr(call: &Call) -> Addr4 {
        // SAFETY: as above. Volatile: the verifier wants whole words, not what the compiler makes of them.
        Addr4(unsafe { (&raw const (*call.raw()).user_ip4).read_volatile() }.to_ne_bytes())
    }

    #[inline(always)]
    fn set_addr(call: &mut Call, addr: &Addr4) {
        let word = u32::from_ne_bytes(addr.0);
        // SAFETY: as above.
        unsafe { (&raw mut (*call.raw()).user_ip4).write_volatile(word) }
    }
}

impl Named for V6 {
    #[inline(always)]
    fn addr(call: &Call) -> Addr6 {
        // SAFETY: as above; there are four words.
        let word =
            |index: usize| unsafe { (&raw const (*call.raw()).user_ip6[index]).read_volatile() };
        Addr6::from_words([word(0), word(1), word(2), word(3)])
    }

    #[inline(always)]
    fn set_addr(call: &mut Call, addr: &Addr6) {
        for (index, word) in addr.quarters().into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { (&raw mut (*call.raw()).user_ip6[index]).write_volatile(word) };
        }
    }
}
