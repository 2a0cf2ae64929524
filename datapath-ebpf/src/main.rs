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

mod bpf;
mod flow;
mod guard;
mod maps;
mod nat;
mod packet;
mod parse;
mod pipeline;
mod report;

use aya_ebpf::{macros::classifier, programs::TcContext};
use packet::tc::Tc;

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
