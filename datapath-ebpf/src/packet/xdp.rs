//! [`Packet`] for XDP programs: the frame as it lies in the driver's memory, read and written in place, checksums
//! mended by the change alone (RFC 1624).
//!
//! Nothing is known here of what the network card found out about the frame, nor of a checksum that is still to be
//! filled in: whoever changes a packet asks for that first (`driver.rs`).

use core::{ffi::c_void, hint::black_box};

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT},
    helpers::generated::{bpf_check_mtu, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use datapath_common::{
    checksum,
    event::HEAD,
    family::Family,
    reason::{Outcome, Reason},
    way::Mac,
};

use super::{Covers, Head, Packet, SocketTuple};
use crate::{
    guard::TAGS,
    maps::{self, FRAME_PORTS},
    parse::ETHERNET,
};

/// A packet at the driver's level.
pub struct Xdp {
    ctx: XdpContext,
}

impl Xdp {
    /// Wraps the context that the kernel hands in.
    #[inline(always)]
    pub fn new(ctx: XdpContext) -> Self {
        Self { ctx }
    }

    /// Where the frame begins and ends.
    ///
    /// Verifier: read anew each time. Handed from function to function the compiler makes 32-bit numbers of them, which
    /// are no pointers any more.
    #[inline(always)]
    fn ends(&self) -> (usize, usize) {
        let ctx = self.ctx.ctx;
        // SAFETY: the kernel's context; the verifier turns the two into pointers.
        unsafe {
            (
                (&raw const (*ctx).data).read_volatile() as usize,
                (&raw const (*ctx).data_end).read_volatile() as usize,
            )
        }
    }

    #[inline(always)]
    fn place<T>(&self, offset: u32) -> Option<*mut T> {
        let (start, end) = self.ends();
        // Verifier: the number that is compared must be the one that is added. Through a black box the compiler cannot
        // work either out from what went before.
        super::place(start, end, black_box(offset))
    }

    /// Names the port that the frame is to leave by once the program is done, if that port takes frames. Where it
    /// does not, nothing has happened.
    #[inline(always)]
    pub fn leave_by(&mut self, port: u32) -> bool {
        FRAME_PORTS.redirect(port, 0) == Ok(XDP_REDIRECT)
    }
}

impl Packet for Xdp {
    #[inline(always)]
    fn ethertype(&self) -> u16 {
        self.read(12).map_or(0, u16::from_be)
    }

    /// The kernel has not looked at the address yet.
    #[inline(always)]
    fn is_for_host(&self) -> bool {
        self.read::<Mac>(0)
            .is_ok_and(|to| maps::card(self.ifindex()) == Some(to))
    }

    #[inline(always)]
    fn has_vlan(&self) -> bool {
        TAGS.contains(&self.ethertype())
    }

    /// Its tag still stands in the frame, which is the stack's to take off.
    #[inline(always)]
    fn is_of_vlan(&self) -> bool {
        self.has_vlan()
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        let (start, end) = self.ends();
        (end - start) as u32
    }

    /// Trains are made after the driver's level. Where they come to it all the same (a generic program), what does
    /// not fit is left to the stack.
    #[inline(always)]
    fn is_gso(&self) -> bool {
        false
    }

    #[inline(always)]
    fn read<T: Copy>(&self, offset: u32) -> Result<T, Reason> {
        let place = self.place::<T>(offset).ok_or(Reason::Malformed)?;
        // SAFETY: inside the packet, as `place` says; the types read are plain bytes.
        Ok(unsafe { super::load(place) })
    }

    #[inline(always)]
    fn capture(&self, to: &mut [u8; HEAD]) -> u32 {
        // Verifier: what is known of the difference of two pointers is not what is passed on, but for the black box.
        let length = black_box(self.len()).min(HEAD as u32);
        // Verifier: as in `tc.rs`.
        if length < ETHERNET {
            return 0;
        }
        let to = to.as_mut_ptr().cast::<c_void>();
        // SAFETY: the helper writes `length` bytes, for which there is room.
        match unsafe { bpf_xdp_load_bytes(self.ctx.ctx, 0, to, length) } {
            0 => length,
            _ => 0,
        }
    }

    #[inline(always)]
    fn write<T: Copy>(&mut self, offset: u32, value: &T) -> Result<(), Reason> {
        let place = self.place::<T>(offset).ok_or(Reason::RewriteFailed)?;
        // SAFETY: inside the packet, as `place` says, and the driver's memory is this program's while it runs.
        unsafe { super::store(place, value) };
        Ok(())
    }

    #[inline(always)]
    fn mend_checksum(
        &mut self,
        offset: u32,
        difference: u32,
        _: Covers,
        udp: bool,
    ) -> Result<(), Reason> {
        let old: u16 = self.read(offset)?;
        let mended = if udp {
            checksum::mend_udp(old, difference)
        } else {
            checksum::mend(old, difference)
        };
        self.write(offset, &mended)
    }

    /// A card's sum of a frame that was redirected goes no further.
    #[inline(always)]
    fn add_to_sum(&mut self, _: u32) {}

    #[inline(always)]
    fn fits(&self, ifindex: u32) -> Option<u32> {
        let mut mtu = 0_u32;
        // SAFETY: the helper writes the interface's MTU there.
        let fits = unsafe { bpf_check_mtu(self.ctx.ctx.cast(), ifindex, &raw mut mtu, 0, 0) == 0 };
        fits.then_some(mtu)
    }

    #[inline(always)]
    fn head(&self, length: usize) -> Option<Head> {
        let (start, end) = self.ends();
        Head::new(start, end, length)
    }

    #[inline(always)]
    fn host_connection<F: Family>(&self, packet: &SocketTuple<F>) -> bool {
        super::host_connection(self.ctx.ctx.cast(), packet)
    }

    #[inline(always)]
    fn log(&self, reason: Reason) {
        // As in `tc`.
        aya_log_ebpf::warn!(&self.ctx, "{} {}", reason as u32, self.ifindex());
    }

    #[inline(always)]
    fn action(&self, outcome: Outcome) -> i32 {
        (match outcome {
            Outcome::Translate => XDP_REDIRECT,
            Outcome::Pass => XDP_PASS,
            Outcome::Drop => XDP_DROP,
        }) as i32
    }
}
