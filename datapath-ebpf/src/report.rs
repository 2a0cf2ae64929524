//! The end of every packet: its reason is counted, and becomes the hook's action.

use aya_ebpf::bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC};
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

/// The packet goes to the next program on the hook, and on through the stack, uncounted.
#[inline(always)]
pub const fn go_on() -> i32 {
    TC_ACT_UNSPEC
}

/// Counts the packet and says what the kernel is to do with it. What is not dropped goes to the next program
/// on the hook (`TCX_NEXT`), if any, and on through the stack.
#[inline(always)]
pub fn finish<P: Packet>(packet: &P, reason: Reason) -> i32 {
    if reason == Reason::FragmentWaits && packet.has_waited() {
        // Counted when it began.
        return TC_ACT_REDIRECT;
    }
    if let Some(count) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own place in an array; nothing else runs on it meanwhile.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += u64::from(packet.len());
        }
    }
    match reason.outcome() {
        Outcome::Translate | Outcome::Pass if packet.is_redirected() => TC_ACT_REDIRECT,
        Outcome::Translate | Outcome::Pass => TC_ACT_UNSPEC,
        Outcome::Drop => {
            monitor::tell(packet, reason);
            if reason.is_alarming() {
                alarm::raise(packet, reason);
            }
            TC_ACT_SHOT
        }
    }
}
