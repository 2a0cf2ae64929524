//! The end of every packet: its reason is counted, and becomes the hook's action.

use datapath_common::reason::{Outcome, Reason};

use crate::{alarm, maps::REASONS, monitor, packet::Packet};

/// `Ok` went all the way, `Err` stopped somewhere: the reason says what that means.
///
/// Verifier: a sub-program returns one register, so the two are made one here.
#[inline(always)]
pub fn reason(end: Result<Reason, Reason>) -> Reason {
    let (Ok(reason) | Err(reason)) = end;
    reason
}

/// The packet goes on through the stack, uncounted.
#[inline(always)]
pub fn go_on<P: Packet>(packet: &P) -> i32 {
    packet.action(Outcome::Pass)
}

/// Counts the packet and says what the kernel is to do with it.
#[inline(always)]
pub fn finish<P: Packet>(packet: &P, reason: Reason) -> i32 {
    if reason == Reason::FragmentWaits && packet.has_waited() {
        // Counted when it began.
        return packet.action(Outcome::Pass);
    }
    if let Some(count) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own place in an array; nothing else runs on it meanwhile.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += u64::from(packet.len());
        }
    }
    if reason.outcome() == Outcome::Drop {
        monitor::tell(packet, reason);
        if reason.is_alarming() {
            alarm::raise(packet, reason);
        }
    }
    packet.action(reason.outcome())
}
