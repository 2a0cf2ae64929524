//! A packet that becomes one of the other family.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_F_RECOMPUTE_CSUM,
    helpers::generated::{
        bpf_check_mtu, bpf_redirect_neigh, bpf_skb_adjust_room, bpf_skb_change_proto,
        bpf_skb_store_bytes,
    },
};
use datapath_common::{family::Family, reason::Reason};

use super::{
    Buffered, Packet,
    tc::{HANDED_OVER, Tc},
};

/// `BPF_ADJ_ROOM_NET` of include/uapi/linux/bpf.h: behind the IP header.
const ADJ_ROOM_NET: u32 = 0;

/// What takes a socket buffer.
pub trait Reshape: Buffered {
    /// Makes it a packet of another family: between the Ethernet header and what follows the IP header there is
    /// room for an IP header of that family, which is for the caller to write.
    fn change_family<F: Family>(&mut self) -> Result<(), Reason>;
    /// Makes room for so many bytes behind the IP header, or takes so many out.
    fn adjust(&mut self, bytes: i32) -> Result<(), Reason>;
    /// Writes a header that does not make up for what it replaces: the network card's sum of the whole packet, if
    /// there is one, is changed along.
    fn write_anew<T: Copy>(&mut self, offset: u32, value: &T) -> Result<(), Reason>;
    /// Sends it out of an interface by the route that the host has there. The program at that interface's egress
    /// knows by [`Buffered::is_handed_over`] that it is done with.
    fn redirect_routed(&mut self, ifindex: u32) -> Result<(), Reason>;
    /// Bytes that each segment of a train has behind its headers, else 0.
    fn segment(&self) -> u32;
    /// The MTU of an interface, if it exists.
    fn mtu(&self, ifindex: u32) -> Option<u32>;
}

impl Reshape for Tc {
    #[inline(always)]
    fn change_family<F: Family>(&mut self) -> Result<(), Reason> {
        // SAFETY: the kernel's context. It moves what stands before the IP header.
        if unsafe { bpf_skb_change_proto(self.skb(), F::ETHERTYPE.to_be(), 0) } != 0 {
            return Err(Reason::RewriteFailed);
        }
        self.write(12, &F::ETHERTYPE.to_be())
    }

    #[inline(always)]
    fn adjust(&mut self, bytes: i32) -> Result<(), Reason> {
        // SAFETY: the kernel's context.
        match unsafe { bpf_skb_adjust_room(self.skb(), bytes, ADJ_ROOM_NET, 0) } {
            0 => Ok(()),
            _ => Err(Reason::RewriteFailed),
        }
    }

    #[inline(always)]
    fn write_anew<T: Copy>(&mut self, offset: u32, value: &T) -> Result<(), Reason> {
        let from = core::ptr::from_ref(value).cast::<c_void>();
        let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
        // SAFETY: the helper reads `size_of::<T>()` bytes of `value`.
        match unsafe { bpf_skb_store_bytes(self.skb(), offset, from, size_of::<T>() as u32, flags) }
        {
            0 => Ok(()),
            _ => Err(Reason::RewriteFailed),
        }
    }

    #[inline(always)]
    fn redirect_routed(&mut self, ifindex: u32) -> Result<(), Reason> {
        // SAFETY: the kernel's context; a plain integer.
        unsafe { (*self.skb()).tc_index = HANDED_OVER };
        // SAFETY: without parameters the kernel asks its own routes.
        let answer = unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) };
        self.redirected(answer)
    }

    #[inline(always)]
    fn segment(&self) -> u32 {
        // SAFETY: the kernel's context.
        unsafe { (*self.skb()).gso_size }
    }

    #[inline(always)]
    fn mtu(&self, ifindex: u32) -> Option<u32> {
        let mut mtu = 0_u32;
        // SAFETY: the helper writes the interface's MTU there, whether the packet fits or not.
        unsafe { bpf_check_mtu(self.skb().cast(), ifindex, &raw mut mtu, 0, 0) };
        (mtu != 0).then_some(mtu)
    }
}
