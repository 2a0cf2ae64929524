//! Fragments that come before their first, which alone carries the ports.
//!
//! A program cannot hold a packet back, but it can put it at the end of its interface's queue: by the time that
//! it is looked at again, what came meanwhile has passed. That goes on for some milliseconds at the most, and
//! only for few fragments at a time: all others lose nothing by it but a place in the queue.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};

use crate::packet::Buffered;

/// A millisecond, nearly: what a waiting fragment's age is counted in.
const TICK: u64 = 1 << 20;
/// How old it may become.
const PATIENCE: u8 = 32;
/// A stretch of time in which so many fragments may begin to wait on one CPU, and be looked at so many times in
/// all: a flood of fragments costs a part of the CPU's time, and takes few places in the queue, which has a thousand
/// (`net.core.netdev_max_backlog`).
const WINDOW: u64 = 64 * TICK;
const BEGINNERS: u32 = 128;
const LOOKS: u32 = 65_536;

/// What this CPU did in the window.
struct Waiting {
    window: u64,
    beginners: u32,
    looks: u32,
}

#[btf_map]
static WAITING: PerCpuArray<Waiting, 1> = PerCpuArray::new();

/// Sends a fragment round once more, unless it has waited for long enough, or too many do. `since` is what
/// [`Buffered::waits_since`] said.
#[inline(never)]
pub fn again<P: Buffered>(packet: &mut P, since: Option<u8>, now: u64) -> bool {
    let Some(waiting) = WAITING.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own place; nothing else runs on it meanwhile.
    let waiting = unsafe { &mut *waiting };
    let window = now / WINDOW;
    if waiting.window != window {
        *waiting = Waiting {
            window,
            beginners: 0,
            looks: 0,
        };
    }
    let tick = (now / TICK) as u8;
    let begun = since.unwrap_or(tick);
    if tick.wrapping_sub(begun) > PATIENCE || waiting.looks >= LOOKS {
        return false;
    }
    if since.is_none() {
        if waiting.beginners >= BEGINNERS {
            return false;
        }
        waiting.beginners += 1;
    }
    waiting.looks += 1;
    packet.requeue(begun)
}
