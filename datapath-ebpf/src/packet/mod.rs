//! A packet, whatever program type carries it: reading, writing, checksums. No protocol is known here.
//!
//! What only one program type can do is not in [`Packet`]: [`Buffered`] is for packets in a socket buffer (TC), and
//! what the driver's level (XDP) can do stands with [`xdp::Xdp`].

pub mod reshape;
pub mod tc;
pub mod xdp;

use core::{ffi::c_void, mem::MaybeUninit, ptr::copy_nonoverlapping};

use aya_ebpf::{
    bindings::BPF_F_CURRENT_NETNS,
    helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp},
};
use datapath_common::{
    checksum,
    event::HEAD,
    family::Family,
    reason::{Outcome, Reason},
};

/// What a checksum's covered change was, since the kernel treats the two differently where the hardware is
/// still to fill the checksum in (`CHECKSUM_PARTIAL`): then the field holds the pseudo-header's sum alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Covers {
    /// Addresses: part of the pseudo-header.
    PseudoHeader,
    /// Anything behind the IP header.
    Payload,
}

/// A packet at a hook.
pub trait Packet {
    /// The EtherType, host order.
    fn ethertype(&self) -> u16;
    /// Whether the frame is addressed to this machine alone.
    fn is_for_host(&self) -> bool;
    /// Whether it carries a VLAN tag.
    fn has_vlan(&self) -> bool;
    /// Whether its VLAN tag makes it another interface's. One that names no VLAN but only a priority does not (IEEE
    /// 802.1Q, 6.9; net/core/dev.c, `__netif_receive_skb_core`).
    fn is_of_vlan(&self) -> bool;
    /// The interface that it arrived at, or leaves by.
    fn ifindex(&self) -> u32;
    /// Bytes of the frame, from the Ethernet header on.
    fn len(&self) -> u32;
    /// Whether it is a train of segments that is to be cut later.
    fn is_gso(&self) -> bool;
    /// Reads a header of plain bytes.
    fn read<T: Copy>(&self, offset: u32) -> Result<T, Reason>;
    /// Copies the frame's first bytes, and says how many.
    fn capture(&self, to: &mut [u8; HEAD]) -> u32;
    /// Writes one.
    fn write<T: Copy>(&mut self, offset: u32, value: &T) -> Result<(), Reason>;
    /// Mends the IPv4 header's checksum.
    ///
    /// What the kernel knows of the whole packet's sum (`CHECKSUM_COMPLETE`) stays right: the change of the checksum
    /// makes up for that of the words it covers.
    #[inline(always)]
    fn mend_header_checksum(&mut self, offset: u32, difference: u32) -> Result<(), Reason> {
        let old: u16 = self.read(offset)?;
        self.write(offset, &checksum::mend(old, difference))
    }
    /// Mends a checksum behind the IP header. `udp` says that 0 means "none".
    fn mend_checksum(
        &mut self,
        offset: u32,
        difference: u32,
        covers: Covers,
        udp: bool,
    ) -> Result<(), Reason>;
    /// Adds a change that no checksum in the packet makes up for to the sum that the network card made of the
    /// whole packet, if it made one (`CHECKSUM_COMPLETE`).
    fn add_to_sum(&mut self, difference: u32);
    /// The MTU of an interface that exists and takes packets of this size, cut in segments if it is a train of them.
    fn fits(&self, ifindex: u32) -> Option<u32>;
    /// The frame's first bytes, if so many lie in one piece.
    fn head(&self, length: usize) -> Option<Head>;
    /// Whether a socket of the host is connected by TCP, or connects, as a packet of these endpoints says.
    fn host_connection<F: Family>(&self, packet: &SocketTuple<F>) -> bool;
    /// Tells the service's log that it was dropped.
    fn log(&self, reason: Reason);
    /// Whether it was here before, and went back into the queue ([`Buffered::requeue`]).
    fn has_waited(&self) -> bool {
        false
    }
    /// What the kernel is to be told to do with it.
    fn action(&self, outcome: Outcome) -> i32;
}

/// A packet in a socket buffer: the stack's routes, neighbours and sockets are at hand.
pub trait Buffered: Packet {
    /// Sends it out of an interface, to a neighbour that the kernel resolves. Nothing is done to it afterwards.
    fn redirect_neighbour<F: Family>(
        &mut self,
        ifindex: u32,
        neighbour: &F::Addr,
    ) -> Result<(), Reason>;
    /// Sends it out of an interface as it is, its Ethernet header included. The program at that interface's
    /// egress knows by [`Buffered::is_handed_over`] that it is done with.
    fn redirect(&mut self, ifindex: u32) -> Result<(), Reason>;
    /// Sends it into the other network namespace that a veth interface's peer is in, as if it had arrived there.
    fn redirect_peer(&mut self, ifindex: u32) -> Result<(), Reason>;
    /// Whether [`Buffered::redirect`] sent it here. Asking takes the mark off.
    fn is_handed_over(&mut self) -> bool;
    /// Puts it at the end of the queue of the interface that it came in by, marked with `since`, so that this hook
    /// sees it again. `false` where the kernel refuses.
    fn requeue(&mut self, since: u8) -> bool;
    /// The mark that [`Buffered::requeue`] left. Asking takes it off.
    fn waits_since(&mut self) -> Option<u8>;
    /// Copies so many bytes of it: from one to [`Piece::BYTES`].
    fn copy(&self, offset: u32, bytes: u32, to: &mut Piece) -> Result<(), Reason>;
    /// Whether a socket of the host would take the packet of these endpoints: TCP or UDP, connected or not.
    fn host_socket<F: Family>(&self, protocol: u8, packet: &SocketTuple<F>) -> bool;
}

/// Room for a piece of a packet, as `bpf_csum_diff` takes it at once.
///
/// Verifier: a word more than [`Piece::BYTES`], since it does not see that what is rounded up to words still fits.
pub struct Piece(pub [u32; 129]);

impl Piece {
    /// How many bytes there may be.
    pub const BYTES: u32 = 512;
}

/// `struct bpf_sock_tuple` for a packet that arrives: 12 bytes for IPv4, 36 for IPv6, and by that length the
/// kernel tells them apart.
#[repr(C)]
pub struct SocketTuple<F: Family> {
    /// Source address.
    pub src: F::Addr,
    /// Destination address.
    pub dst: F::Addr,
    /// Source port, network order.
    pub sport: u16,
    /// Destination port, network order.
    pub dport: u16,
}

/// The protocol's state of a socket that listens: `TCP_LISTEN` of include/net/tcp_states.h.
const LISTEN: u32 = 10;

/// What [`Packet::host_connection`] says, by the program's context.
#[inline(always)]
fn host_connection<F: Family>(ctx: *mut c_void, packet: &SocketTuple<F>) -> bool {
    let tuple = core::ptr::from_ref(packet).cast_mut().cast();
    let len = size_of::<SocketTuple<F>>() as u32;
    // SAFETY: the tuple lives for the call; a socket that is found is released at once.
    unsafe {
        let socket = bpf_skc_lookup_tcp(ctx, tuple, len, BPF_F_CURRENT_NETNS as u64, 0);
        if socket.is_null() {
            return false;
        }
        let state = (&raw const (*socket).state).read_volatile();
        bpf_sk_release(socket.cast());
        state != LISTEN
    }
}

/// A frame's first bytes, read and written in place: one comparison for all of them. Whatever changes the packet by
/// way of the kernel's helpers ends it (the verifier sees to that).
pub struct Head {
    start: *mut u8,
    length: usize,
}

impl Head {
    #[inline(always)]
    fn new(start: usize, end: usize, length: usize) -> Option<Self> {
        (start + length <= end).then_some(Self {
            start: start as *mut u8,
            length,
        })
    }

    #[inline(always)]
    fn place<T>(&self, offset: u32) -> *mut T {
        let offset = offset as usize;
        // Of two constants: a place beyond would be a panic that is reached, which no kernel loads.
        assert!(offset + size_of::<T>() <= self.length);
        // SAFETY: within the bytes that are there.
        unsafe { self.start.add(offset).cast() }
    }

    /// Reads a header of plain bytes.
    #[inline(always)]
    pub fn get<T: Copy>(&self, offset: u32) -> T {
        // SAFETY: the place is there, and the types read are plain bytes.
        unsafe { load(self.place(offset)) }
    }

    /// Writes one.
    #[inline(always)]
    pub fn put<T: Copy>(&self, offset: u32, value: &T) {
        // SAFETY: as above, and the packet is this program's own while it runs.
        unsafe { store(self.place(offset), value) };
    }
}

/// Where a header lies between a packet's two ends; `None` for one beyond.
#[inline(always)]
fn place<T>(start: usize, end: usize, offset: u32) -> Option<*mut T> {
    // Verifier: an offset must be bounded before it is added to a packet's pointer.
    const REACH: u32 = 512;
    // It also makes nothing of `place < end`, which `place + 1 <= end` would be compiled to.
    let room = size_of::<T>().max(2);
    if offset >= REACH {
        return None;
    }
    let place = start + offset as usize;
    (place + room <= end).then_some(place as *mut T)
}

/// Room that words fit in.
#[repr(C, align(8))]
struct Aligned<T>(T);

/// Reads a header at a place in the packet.
///
/// Headers stand at even places of a frame and frames at even addresses (`NET_IP_ALIGN` in include/linux/skbuff.h), so
/// what is made of words is read in words of two bytes: byte by byte, as of an unknown place, costs twice as much. What
/// is made of bytes may stand anywhere.
///
/// # Safety
/// The place lies within the packet, and `T` is plain bytes.
#[inline(always)]
unsafe fn load<T: Copy>(place: *const T) -> T {
    if align_of::<T>() == 1 {
        // SAFETY: as promised.
        return unsafe { place.read_unaligned() };
    }
    let mut value = MaybeUninit::<Aligned<T>>::uninit();
    let to = value.as_mut_ptr().cast::<u16>();
    // SAFETY: as promised, and a type made of words has an even size.
    unsafe {
        copy_nonoverlapping(place.cast(), to, size_of::<T>() / 2);
        value.assume_init().0
    }
}

/// Writes one, likewise.
///
/// # Safety
/// As for [`load`].
#[inline(always)]
unsafe fn store<T: Copy>(place: *mut T, value: &T) {
    if align_of::<T>() == 1 {
        // SAFETY: as promised.
        return unsafe { place.write_unaligned(*value) };
    }
    let value = Aligned(*value);
    let from = (&raw const value).cast::<u16>();
    // SAFETY: as in `load`.
    unsafe { copy_nonoverlapping(from, place.cast(), size_of::<T>() / 2) };
}
