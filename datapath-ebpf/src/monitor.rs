//! Drops told to whoever monitors: nothing is done here while nobody does.

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray, RingBuf},
    macros::btf_map,
};
use datapath_common::{
    conntrack::timeouts::SECOND,
    event::{BUFFER, Event, Monitor, RATE, Written},
    reason::Reason,
};

use crate::{bpf, packet::Packet};

/// The events. When full, the next ones are only counted.
#[btf_map]
static EVENTS: RingBuf<Event, BUFFER> = RingBuf::new();
/// Who listens, one entry.
#[btf_map]
static MONITOR: Array<Monitor, 1> = Array::new();
/// How many events there were.
#[btf_map]
static WRITTEN: PerCpuArray<Written, 1> = PerCpuArray::new();

/// Tells about a dropped packet, if anybody listens.
#[inline(always)]
pub fn tell<P: Packet>(packet: &P, reason: Reason) {
    if let Some(monitor) = MONITOR.get(0)
        && monitor.until != 0
    {
        write(packet, reason as u32, monitor.until);
    }
}

#[inline(never)]
fn write<P: Packet>(packet: &P, reason: u32, until: u64) {
    let now = bpf::precisely_now();
    if now >= until {
        return;
    }
    let Some(written) = WRITTEN.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own place; nothing else runs on it meanwhile.
    let written = unsafe { &mut *written };
    let second = now / SECOND;
    if written.second != second {
        written.second = second;
        written.events = 0;
    }
    if written.events >= RATE {
        written.suppressed += 1;
        return;
    }
    let Some(mut entry) = EVENTS.reserve(0) else {
        written.suppressed += 1;
        return;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: the reserved memory is ours until it is submitted, and has room for an event.
    let captured = unsafe {
        (*event).time = now;
        (*event).reason = reason;
        (*event).ifindex = packet.ifindex();
        (*event).length = packet.len();
        let captured = packet.capture(&mut (*event).head);
        (*event).captured = captured;
        captured
    };
    if captured == 0 {
        entry.discard(0);
        return;
    }
    entry.submit(0);
    written.events += 1;
}
