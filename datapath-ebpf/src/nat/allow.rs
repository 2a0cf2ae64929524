//! Allow-lists: a published port that has one answers to the sources that it names, and to the host itself, whose
//! calls never become packets to the port.

use aya_ebpf::maps::lpm_trie::Key;
use datapath_common::{
    allow::{AllowKey, EVERYBODY, LIST_BITS},
    binding::Binding,
    family::Address as _,
    reason::Reason,
};

use crate::maps::{BINDING_STATS, Maps};

/// Whether a source may ask for a port. A port without a list pays a comparison.
#[inline(always)]
pub fn check<F: Maps>(binding: &Binding<F>, src: &F::Addr) -> Result<(), Reason> {
    if binding.allow == EVERYBODY || is_named::<F>(binding.allow, src) {
        return Ok(());
    }
    if let Some(stats) = BINDING_STATS.get_ptr_mut(binding.slot) {
        // SAFETY: this CPU's own place; nothing else runs on it meanwhile.
        unsafe { (*stats).refused += 1 };
    }
    Err(Reason::NotAllowed)
}

/// Verifier: a sub-program, so that the key on the stack is its own.
#[inline(never)]
fn is_named<F: Maps>(list: u32, src: &F::Addr) -> bool {
    let key = AllowKey { list, addr: *src };
    F::allowed()
        .get(&Key::new(LIST_BITS + F::Addr::BITS, key))
        .is_some()
}
