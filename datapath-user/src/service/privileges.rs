//! What the service may do: it loads with three capabilities, and goes on with one.
//!
//! Once everything is loaded the maps work through the descriptors that are open; attaching programs to interfaces
//! and asking the kernel about its rules still takes CAP_NET_ADMIN. Capabilities belong to a thread, so what is given
//! up has to be given up before there is a second one.

use anyhow::{Context as _, Result, bail};
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use tracing::debug;

/// What loading takes.
const LOADING: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
];
/// What running takes.
const RUNNING: Capability = Capability::CAP_NET_ADMIN;

/// Looks whether the process may load the programs.
///
/// # Errors
/// Names the capabilities that are missing.
pub(super) fn require() -> Result<()> {
    let present = caps::read(None, CapSet::Effective).context("capabilities")?;
    let missing: Vec<_> = LOADING
        .iter()
        .filter(|wanted| !has(&present, **wanted))
        .map(ToString::to_string)
        .collect();
    if !missing.is_empty() {
        bail!(
            "missing {}: loading needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; run as root, or grant them \
             (CapabilityBoundingSet= and AmbientCapabilities= of a systemd unit)",
            missing.join(" and ")
        );
    }
    Ok(())
}

/// CAP_SYS_ADMIN is as good as the two that were split off from it (capabilities(7)).
fn has(present: &CapsHashSet, wanted: Capability) -> bool {
    let whole = wanted != Capability::CAP_NET_ADMIN && present.contains(&Capability::CAP_SYS_ADMIN);
    whole || present.contains(&wanted)
}

/// Gives up, for good, all that running does not take. To be called while the process has one thread.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn drop_all_but_running() -> Result<()> {
    let keep = CapsHashSet::from([RUNNING]);
    prctl::set_no_new_privs().context("no_new_privs")?;
    caps::clear(None, CapSet::Ambient).context("ambient capabilities")?;
    // Takes CAP_SETPCAP, which root has and a unit's process may not: no_new_privs serves in its place.
    for capability in caps::read(None, CapSet::Bounding).unwrap_or_default() {
        if capability != RUNNING
            && let Err(error) = caps::drop(None, CapSet::Bounding, capability)
        {
            debug!("{capability} stays in the bounding set: {error}");
            break;
        }
    }
    caps::clear(None, CapSet::Inheritable).context("inheritable capabilities")?;
    caps::set(None, CapSet::Effective, &keep).context("effective capabilities")?;
    caps::set(None, CapSet::Permitted, &keep).context("permitted capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_admin_stands_for_what_was_split_off_from_it() {
        let admin = CapsHashSet::from([Capability::CAP_SYS_ADMIN]);
        assert!(has(&admin, Capability::CAP_BPF) && has(&admin, Capability::CAP_PERFMON));
        assert!(!has(&admin, Capability::CAP_NET_ADMIN));
        let own = CapsHashSet::from(LOADING);
        assert!(LOADING.iter().all(|wanted| has(&own, *wanted)));
    }
}
