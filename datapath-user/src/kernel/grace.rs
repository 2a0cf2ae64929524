//! A grace period: what was taken out of a map may still be in the hands of a program that had looked it up before.

use std::{thread, time::Duration};

/// Longer than a program runs, whatever holds its CPU up. For kernels that do not wait for us: those that leave CPUs
/// to one process alone (`nohz_full`), and sandboxes that know no such call.
const LONG_ENOUGH: Duration = Duration::from_millis(100);

/// Waits until every program is done that runs now. One that begins later sees what the maps hold by now.
///
/// Programs run under RCU, and this call waits for all who do (`synchronize_rcu` in kernel/sched/membarrier.c,
/// `sys_membarrier`): some milliseconds, and no longer than it takes, even where a hypervisor holds a CPU back in the
/// middle of a program.
pub fn wait() {
    // SAFETY: takes two numbers and a third that is not looked at, and touches no memory.
    let done = unsafe {
        libc::syscall(
            libc::SYS_membarrier,
            libc::c_long::from(libc::MEMBARRIER_CMD_GLOBAL),
            0,
            0,
        )
    };
    if done != 0 {
        thread::sleep(LONG_ENOUGH);
    }
}
