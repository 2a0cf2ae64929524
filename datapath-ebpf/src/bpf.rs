//! Safe names for the helpers that need no packet.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::{
        bpf_csum_diff, bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_loop,
    },
};

/// A map's entry is inserted, or replaced.
pub const ANY: u64 = 0;
/// A map's entry is inserted, or it is an error.
pub const NOEXIST: u64 = BPF_NOEXIST as u64;

/// `CLOCK_MONOTONIC` as of the last tick, in nanoseconds: up to 10 ms late, which no timeout minds, and read from
/// memory where [`precisely_now`] asks the clock itself.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: takes nothing, returns a number.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// `CLOCK_MONOTONIC`, in nanoseconds, for what people compare.
#[inline(always)]
pub fn precisely_now() -> u64 {
    // SAFETY: takes nothing, returns a number.
    unsafe { bpf_ktime_get_ns() }
}

/// A random number that nobody outside can predict.
#[inline(always)]
pub fn random() -> u32 {
    // SAFETY: takes nothing, returns a number.
    unsafe { bpf_get_prandom_u32() }
}

/// Adds bytes to a ones'-complement sum, at most 512 of them and in whole words.
#[inline(always)]
pub fn add_to_sum(sum: u32, words: &[u32], bytes: u32) -> u32 {
    let words = words.as_ptr().cast_mut();
    // SAFETY: the helper reads `bytes` bytes, and the verifier sees that they are there.
    unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, words, bytes, sum) as u32 }
}

/// Calls `step` with 0, 1 and so on and with `context`, until it answers 1 or was called so many `times`.
#[inline(always)]
pub fn until<C>(times: u32, context: &mut C, step: extern "C" fn(u64, &mut C) -> i64) {
    // SAFETY: the kernel calls `step` with the number and the context that it was given, while this one waits.
    unsafe { bpf_loop(times, step as *mut c_void, (&raw mut *context).cast(), 0) };
}
