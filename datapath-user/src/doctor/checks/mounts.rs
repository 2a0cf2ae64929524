//! The file systems that everything hangs on: bpffs for the pins, cgroup2 for the host's own calls.

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::super::{Found, Subject, fine, note, todo, unknown};
use crate::kernel::cgroup;

pub(super) fn look(subject: &Subject) -> Found {
    let pins = &subject.config.pin_dir;
    let place = pins.ancestors().find(|dir| dir.exists());
    let kind = place.map(|place| statfs(place).map(|stat| stat.filesystem_type()));
    let bpffs = match kind {
        Some(Ok(BPF_FS_MAGIC)) => fine(format!("bpffs is where the pins go ({})", pins.display())),
        Some(Err(nix::errno::Errno::EACCES)) => {
            unknown(format!("{} may not be looked at", pins.display()))
        }
        // The service mounts it.
        _ if pins.starts_with("/sys/fs/bpf") => {
            note("bpffs is not mounted at /sys/fs/bpf; the service mounts it when it starts")
        }
        _ => todo(
            format!("pin_dir: {} is on no bpffs", pins.display()),
            "name a directory below /sys/fs/bpf, or mount bpffs there: `mount -t bpf bpf DIR`",
        ),
    };
    let cgroup = match cgroup::root() {
        Some(root) => fine(format!("cgroup2 is mounted at {}", root.display())),
        None => todo(
            "cgroup2 is not mounted: processes of this host would not reach published ports on its own addresses",
            "`mount -t cgroup2 none /sys/fs/cgroup`, or boot with systemd.unified_cgroup_hierarchy=1",
        ),
    };
    vec![bpffs, cgroup]
}
