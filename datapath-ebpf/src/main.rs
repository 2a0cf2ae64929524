//! The kernel half of datapath. Read [`pipeline`] first: it is the way of a packet, in verbs.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key by value is a copy on 512 bytes of stack"
)]
#![expect(
    unreachable_pub,
    reason = "a program has no outside; `pub` says what a module offers the others"
)]

mod alarm;
mod bpf;
mod driver;
mod fast;
mod flow;
mod forward;
mod guard;
mod host;
mod maps;
mod monitor;
mod nat;
mod packet;
mod parse;
mod pipeline;
mod report;
mod socket;

use aya_ebpf::{
    macros::{cgroup_sock_addr, classifier, xdp},
    programs::{SockAddrContext, TcContext, XdpContext},
};
use datapath_common::family::{V4, V6};
use packet::{tc::Tc, xdp::Xdp};
use socket::Call;

/// What arrives from outside, at the driver's level.
#[xdp]
pub fn uplink_xdp(ctx: XdpContext) -> u32 {
    pipeline::uplink_xdp(Xdp::new(ctx))
}

/// What arrives from outside.
#[classifier]
pub fn uplink_ingress(ctx: TcContext) -> i32 {
    pipeline::uplink_ingress(Tc::new(ctx))
}

/// What leaves for outside.
#[classifier]
pub fn uplink_egress(ctx: TcContext) -> i32 {
    pipeline::uplink_egress(Tc::new(ctx))
}

/// What endpoints send through their bridge into the host.
#[classifier]
pub fn bridge_ingress(ctx: TcContext) -> i32 {
    pipeline::bridge_ingress(Tc::new(ctx))
}

/// What one endpoint sends, before its bridge has it.
#[classifier]
pub fn veth_ingress(ctx: TcContext) -> i32 {
    pipeline::veth_ingress(Tc::new(ctx))
}

/// A process dials IPv4.
#[cgroup_sock_addr(connect4)]
pub fn host_connect4(ctx: SockAddrContext) -> i32 {
    host::connect::<V4>(Call::new(ctx))
}

/// A process dials IPv6.
#[cgroup_sock_addr(connect6)]
pub fn host_connect6(ctx: SockAddrContext) -> i32 {
    host::connect::<V6>(Call::new(ctx))
}

/// A process sends a datagram over IPv4.
#[cgroup_sock_addr(sendmsg4)]
pub fn host_sendmsg4(ctx: SockAddrContext) -> i32 {
    host::sendmsg::<V4>(Call::new(ctx))
}

/// A process sends a datagram over IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn host_sendmsg6(ctx: SockAddrContext) -> i32 {
    host::sendmsg::<V6>(Call::new(ctx))
}

/// A process is told whom an IPv4 datagram is from.
#[cgroup_sock_addr(recvmsg4)]
pub fn host_recvmsg4(ctx: SockAddrContext) -> i32 {
    host::show::<V4>(Call::new(ctx))
}

/// A process is told whom an IPv6 datagram is from.
#[cgroup_sock_addr(recvmsg6)]
pub fn host_recvmsg6(ctx: SockAddrContext) -> i32 {
    host::show::<V6>(Call::new(ctx))
}

/// A process asks whom it dialled over IPv4.
#[cgroup_sock_addr(getpeername4)]
pub fn host_peername4(ctx: SockAddrContext) -> i32 {
    host::show::<V4>(Call::new(ctx))
}

/// A process asks whom it dialled over IPv6.
#[cgroup_sock_addr(getpeername6)]
pub fn host_peername6(ctx: SockAddrContext) -> i32 {
    host::show::<V6>(Call::new(ctx))
}

/// The helpers that need it ask for a GPL-compatible licence.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

// A panic that could be reached would be an endless loop, which the verifier refuses to load: so none can.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
