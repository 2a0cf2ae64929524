//! File descriptors that the process may have. What cannot work for want of them is refused before it begins: a library
//! that runs out of them halfway may do anything.

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What the service needs: one for each map and program, its sockets, a whole crowd at its API, and room to work.
pub(crate) const SERVICE: u64 = 512;
/// What a command needs: the runtime's own, a connection, and the maps.
pub(crate) const COMMAND: u64 = 64;

/// Takes as many as the process may have, and refuses where these are too few for `what`.
///
/// # Errors
/// Names the limit, and where to raise it.
pub(crate) fn require(what: &str, needed: u64) -> Result<()> {
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("the limit of file descriptors")?;
    let raised = soft == hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let limit = if raised { hard } else { soft };
    if limit < needed {
        bail!(
            "RLIMIT_NOFILE: {limit}: too few file descriptors, {what} needs {needed}; raise the limit with `ulimit -n`, \
             or `LimitNOFILE=` of a systemd unit"
        );
    }
    Ok(())
}
