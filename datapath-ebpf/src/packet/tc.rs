//! [`Packet`] for TC programs, by the helpers that keep the socket buffer's checksum state right for
//! `CHECKSUM_PARTIAL`, `CHECKSUM_COMPLETE` and segmentation offload.

use core::{
    ffi::c_void,
    mem::{MaybeUninit, size_of},
};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_CURRENT_NETNS, BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR,
        TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh, bpf_sock_tuple,
    },
    helpers::generated::{
        bpf_check_mtu, bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh,
        bpf_redirect_peer, bpf_sk_lookup_udp, bpf_sk_release, bpf_skb_load_bytes,
        bpf_skb_store_bytes, bpf_skc_lookup_tcp,
    },
    programs::TcContext,
};
use datapath_common::{
    event::HEAD,
    family::Family,
    proto,
    reason::{Outcome, Reason},
};

use super::{Buffered, Covers, Head, Packet, Piece, SocketTuple};
use crate::parse::ETHERNET;

/// `PACKET_HOST` of include/uapi/linux/if_packet.h.
const PACKET_HOST: u32 = 0;

/// `BPF_MTU_CHK_SEGS` of include/uapi/linux/bpf.h.
const MTU_CHK_SEGS: u64 = 1;

/// `AF_INET` and `AF_INET6` of include/linux/socket.h.
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
/// What the redirecting helpers answer when all is well.
const REDIRECT: i64 = TC_ACT_REDIRECT as i64;

/// In the socket buffer's `tc_index`, which starts as 0 and which nothing else in use looks at: the packet is
/// translated, and goes out as it is.
pub(super) const HANDED_OVER: u32 = 0x6470;
/// In the same place, with a byte in its lower half: the packet waits since then.
const WAITS: u32 = 0x6600;

/// `struct bpf_redir_neigh`, whose union bindgen makes hard to fill.
#[repr(C)]
struct NextHop {
    family: u32,
    addr: [u8; 16],
}

/// A packet at a TC hook.
pub struct Tc {
    ctx: TcContext,
    redirected: bool,
    waited: bool,
}

impl Tc {
    /// Wraps the context that the kernel hands in.
    #[inline(always)]
    pub fn new(ctx: TcContext) -> Self {
        Self {
            ctx,
            redirected: false,
            waited: false,
        }
    }

    #[inline(always)]
    pub(super) fn skb(&self) -> *mut __sk_buff {
        self.ctx.skb.skb
    }

    /// Where a header lies in the packet's linear part; `None` for one beyond, which only the helpers reach.
    #[inline(always)]
    fn place<T>(&self, offset: u32) -> Option<*mut T> {
        // SAFETY: the kernel's context; the verifier turns the two into pointers.
        let (start, end) =
            unsafe { ((*self.skb()).data as usize, (*self.skb()).data_end as usize) };
        super::place(start, end, offset)
    }

    /// What a redirecting helper answered.
    #[inline(always)]
    pub(super) fn redirected(&mut self, answer: i64) -> Result<(), Reason> {
        self.redirected = answer == REDIRECT;
        if self.redirected {
            Ok(())
        } else {
            Err(Reason::RewriteFailed)
        }
    }
}

impl Packet for Tc {
    #[inline(always)]
    fn ethertype(&self) -> u16 {
        // SAFETY: the kernel's context; the verifier turns the access into one of the socket buffer.
        u16::from_be(unsafe { (*self.skb()).protocol } as u16)
    }

    #[inline(always)]
    fn is_for_host(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.skb()).pkt_type == PACKET_HOST }
    }

    #[inline(always)]
    fn has_vlan(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.skb()).vlan_present != 0 }
    }

    #[inline(always)]
    fn is_of_vlan(&self) -> bool {
        /// `VLAN_VID_MASK` of include/linux/if_vlan.h.
        const VLAN: u32 = 0x0fff;
        // SAFETY: as above.
        self.has_vlan() && unsafe { (*self.skb()).vlan_tci } & VLAN != 0
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb()).ifindex }
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb()).len }
    }

    #[inline(always)]
    fn is_gso(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.skb()).gso_size != 0 }
    }

    #[inline(always)]
    fn read<T: Copy>(&self, offset: u32) -> Result<T, Reason> {
        if let Some(place) = self.place::<T>(offset) {
            // SAFETY: inside the packet, as `place` says; the types read are plain bytes.
            return Ok(unsafe { super::load(place) });
        }
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes `size_of::<T>()` bytes there or fails; the types read are plain bytes.
        unsafe {
            let to = value.as_mut_ptr().cast::<c_void>();
            if bpf_skb_load_bytes(self.skb().cast(), offset, to, size_of::<T>() as u32) != 0 {
                return Err(Reason::Malformed);
            }
            Ok(value.assume_init())
        }
    }

    #[inline(always)]
    fn capture(&self, to: &mut [u8; HEAD]) -> u32 {
        let length = self.len().min(HEAD as u32);
        // Verifier: the helper takes no length of 0, and Linux 6.1 learns nothing from a comparison with 0.
        if length < ETHERNET {
            return 0;
        }
        // SAFETY: the helper writes `length` bytes, for which there is room.
        let answer = unsafe {
            bpf_skb_load_bytes(
                self.skb().cast::<c_void>(),
                0,
                to.as_mut_ptr().cast::<c_void>(),
                length,
            )
        };
        if answer == 0 { length } else { 0 }
    }

    #[inline(always)]
    fn write<T: Copy>(&mut self, offset: u32, value: &T) -> Result<(), Reason> {
        if let Some(place) = self.place::<T>(offset) {
            // SAFETY: inside the packet, as `place` says, and the program's prologue has made it this
            // packet's own.
            unsafe { super::store(place, value) };
            return Ok(());
        }
        let from = core::ptr::from_ref(value).cast::<c_void>();
        // SAFETY: the helper reads `size_of::<T>()` bytes of `value`.
        match unsafe { bpf_skb_store_bytes(self.skb(), offset, from, size_of::<T>() as u32, 0) } {
            0 => Ok(()),
            _ => Err(Reason::RewriteFailed),
        }
    }

    #[inline(always)]
    fn mend_checksum(
        &mut self,
        offset: u32,
        difference: u32,
        covers: Covers,
        udp: bool,
    ) -> Result<(), Reason> {
        let mut flags = 0;
        if covers == Covers::PseudoHeader {
            flags |= u64::from(BPF_F_PSEUDO_HDR);
        }
        if udp {
            flags |= u64::from(BPF_F_MARK_MANGLED_0);
        }
        // SAFETY: as above.
        match unsafe { bpf_l4_csum_replace(self.skb(), offset, 0, u64::from(difference), flags) } {
            0 => Ok(()),
            _ => Err(Reason::RewriteFailed),
        }
    }

    #[inline(always)]
    fn add_to_sum(&mut self, difference: u32) {
        // SAFETY: as above. It refuses where there is no such sum, and then there is nothing to do.
        unsafe { bpf_csum_update(self.skb(), difference) };
    }

    #[inline(always)]
    fn fits(&self, ifindex: u32) -> Option<u32> {
        let mut mtu = 0_u32;
        let flags = if self.is_gso() { MTU_CHK_SEGS } else { 0 };
        // SAFETY: the helper writes the interface's MTU there.
        let fits =
            unsafe { bpf_check_mtu(self.skb().cast(), ifindex, &raw mut mtu, 0, flags) == 0 };
        fits.then_some(mtu)
    }

    #[inline(always)]
    fn head(&self, length: usize) -> Option<Head> {
        // SAFETY: as in `place`.
        let (start, end) =
            unsafe { ((*self.skb()).data as usize, (*self.skb()).data_end as usize) };
        Head::new(start, end, length)
    }

    #[inline(always)]
    fn host_connection<F: Family>(&self, packet: &SocketTuple<F>) -> bool {
        super::host_connection(self.skb().cast(), packet)
    }

    #[inline(always)]
    fn log(&self, reason: Reason) {
        // The service's half knows the reason by its number, and has the words.
        aya_log_ebpf::warn!(&self.ctx, "{} {}", reason as u32, self.ifindex());
    }

    #[inline(always)]
    fn has_waited(&self) -> bool {
        self.waited
    }

    /// What is not dropped goes to the next program on the hook (`TCX_NEXT`), if any, and on through the stack.
    #[inline(always)]
    fn action(&self, outcome: Outcome) -> i32 {
        match outcome {
            Outcome::Translate | Outcome::Pass if self.redirected => TC_ACT_REDIRECT,
            Outcome::Translate | Outcome::Pass => TC_ACT_UNSPEC,
            Outcome::Drop => TC_ACT_SHOT,
        }
    }
}

impl Buffered for Tc {
    #[inline(always)]
    fn redirect_neighbour<F: Family>(
        &mut self,
        ifindex: u32,
        neighbour: &F::Addr,
    ) -> Result<(), Reason> {
        let mut next = NextHop {
            family: if F::VERSION == 4 { AF_INET } else { AF_INET6 },
            addr: [0; 16],
        };
        // SAFETY: an address has 4 or 16 bytes, and there is room for 16.
        unsafe {
            next.addr
                .as_mut_ptr()
                .cast::<F::Addr>()
                .write_unaligned(*neighbour);
        }
        let params = (&raw mut next).cast::<bpf_redir_neigh>();
        let size = size_of::<NextHop>() as i32;
        // SAFETY: `NextHop` is `struct bpf_redir_neigh`; the helper copies it.
        let answer = unsafe { bpf_redirect_neigh(ifindex, params, size, 0) };
        self.redirected(answer)
    }

    #[inline(always)]
    fn redirect(&mut self, ifindex: u32) -> Result<(), Reason> {
        // SAFETY: the kernel's context; a plain integer.
        unsafe { (*self.skb()).tc_index = HANDED_OVER };
        // SAFETY: plain integers. The kernel looks for the interface when the program is done.
        let answer = unsafe { bpf_redirect(ifindex, 0) };
        self.redirected(answer)
    }

    #[inline(always)]
    fn redirect_peer(&mut self, ifindex: u32) -> Result<(), Reason> {
        // SAFETY: as above.
        let answer = unsafe { bpf_redirect_peer(ifindex, 0) };
        self.redirected(answer)
    }

    #[inline(always)]
    fn is_handed_over(&mut self) -> bool {
        // SAFETY: the kernel's context.
        unsafe {
            let handed = (*self.skb()).tc_index == HANDED_OVER;
            if handed {
                (*self.skb()).tc_index = 0;
            }
            handed
        }
    }

    #[inline(always)]
    fn requeue(&mut self, since: u8) -> bool {
        // SAFETY: the kernel's context; a plain integer.
        let ifindex = unsafe {
            (*self.skb()).tc_index = WAITS | u32::from(since);
            (*self.skb()).ifindex
        };
        // SAFETY: plain integers.
        let answer = unsafe { bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) };
        self.redirected(answer).is_ok()
    }

    #[inline(always)]
    fn waits_since(&mut self) -> Option<u8> {
        // SAFETY: the kernel's context.
        let mark = unsafe { (*self.skb()).tc_index };
        if mark & 0xff00 != WAITS {
            return None;
        }
        // SAFETY: as above.
        unsafe { (*self.skb()).tc_index = 0 };
        self.waited = true;
        Some(mark as u8)
    }

    #[inline(always)]
    fn copy(&self, offset: u32, bytes: u32, to: &mut Piece) -> Result<(), Reason> {
        let to = to.0.as_mut_ptr().cast::<c_void>();
        // SAFETY: the helper writes `bytes` bytes, for which there is room; the verifier sees to it.
        match unsafe { bpf_skb_load_bytes(self.skb().cast(), offset, to, bytes) } {
            0 => Ok(()),
            _ => Err(Reason::Malformed),
        }
    }

    #[inline(always)]
    fn host_socket<F: Family>(&self, protocol: u8, packet: &SocketTuple<F>) -> bool {
        let tuple = core::ptr::from_ref(packet)
            .cast_mut()
            .cast::<bpf_sock_tuple>();
        let len = size_of::<SocketTuple<F>>() as u32;
        let ctx = self.skb().cast::<c_void>();
        let netns = BPF_F_CURRENT_NETNS as u64;
        // SAFETY: the tuple lives for the call; a socket that is found is released at once.
        unsafe {
            let socket = match protocol {
                proto::TCP => bpf_skc_lookup_tcp(ctx, tuple, len, netns, 0),
                proto::UDP => bpf_sk_lookup_udp(ctx, tuple, len, netns, 0),
                _ => return false,
            };
            if socket.is_null() {
                return false;
            }
            bpf_sk_release(socket.cast());
            true
        }
    }
}
