//! What the operator has to hear of without asking: drops that mean that something ran out. Said in the service's log,
//! once a second on each CPU at the most; every packet is counted besides.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use datapath_common::{conntrack::timeouts::SECOND, reason::Reason};

use crate::{bpf, packet::Packet};

/// When this CPU said something last, in seconds of `CLOCK_MONOTONIC`.
#[btf_map]
static ALARMS: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Says it, unless something was said in this second.
#[inline(never)]
pub fn raise<P: Packet>(packet: &P, reason: Reason) {
    let second = bpf::now() / SECOND;
    let Some(last) = ALARMS.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own place; nothing else runs on it meanwhile.
    let last = unsafe { &mut *last };
    if *last != second {
        *last = second;
        packet.log(reason);
    }
}
