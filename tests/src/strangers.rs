//! Programs of somebody else's at the hooks that ours are attached to.

use std::{ffi::CString, os::fd::OwnedFd, path::Path};

use crate::{
    bench::bpf::{self, Code, Kind},
    lab::Netns,
};

/// On to the next program (`TCX_NEXT`, `TC_ACT_UNSPEC`).
pub const GO_ON: i32 = -1;
/// Dropped (`TCX_DROP`, `TC_ACT_SHOT`).
pub const DROP: i32 = 2;

/// Attaches one to both TCX hooks of an interface, before all others or after them, which says this of every packet. It
/// is taken off when these are dropped.
#[must_use]
pub fn beside(netns: &Netns, interface: &str, first: bool, verdict: i32) -> [OwnedFd; 2] {
    let program = program(verdict);
    let interface = interface.to_owned();
    netns.enter(move || {
        let ifindex = nix::net::if_::if_nametoindex(interface.as_str()).expect("the interface");
        [false, true].map(|egress| {
            bpf::attach_tcx(&program, ifindex, egress, first).expect("attaching to a TCX hook")
        })
    })
}

/// Pins one, for tc(8) to attach.
pub fn pin(path: &Path, verdict: i32) {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).expect("a path");
    bpf::pin(&program(verdict), &path).expect("pinning a program");
}

fn program(verdict: i32) -> OwnedFd {
    let mut code = Code::default();
    code.end(verdict);
    bpf::load(Kind::Classifier, &code, false).expect("a program of two instructions")
}
