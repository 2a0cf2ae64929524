//! What the kernel offers: tried, where it can be.

use std::path::Path;

use aya::{
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};

use super::super::{Found, Subject, fine, todo, unknown};
use crate::kernel::{
    attach,
    version::{release, too_old},
};

pub(super) fn look(subject: &Subject) -> Found {
    let release = release();
    let mut found = Found::new();
    if let Some(old) = too_old(&release) {
        // What else is missing came with later versions too.
        return vec![todo(old, "boot a kernel of version 6.1 or later")];
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        found.push(todo(
            "the kernel has no type information (/sys/kernel/btf/vmlinux)",
            "boot a kernel that was built with CONFIG_DEBUG_INFO_BTF, as those of distributions are",
        ));
    }
    if !subject.root {
        found.push(unknown(format!(
            "Linux {release}: what its BPF offers cannot be tried"
        )));
        return found;
    }
    for (what, config, program, helper) in helpers() {
        if matches!(is_helper_supported(program, helper), Ok(false)) {
            found.push(todo(
                format!("the kernel lacks {what}"),
                format!("boot a kernel with {config}"),
            ));
        }
    }
    if found.is_empty() {
        let means = if attach::has_tcx() {
            "TCX"
        } else {
            "clsact (TCX came with 6.6)"
        };
        found.push(fine(format!(
            "Linux {release}, with {means}, type information and all helpers"
        )));
    }
    found
}

fn helpers() -> [(&'static str, &'static str, ProgramType, BpfHelper); 5] {
    let class = ProgramType::SchedClassifier;
    let host = ProgramType::CgroupSockAddr;
    [
        (
            "bpf_redirect_peer",
            "CONFIG_BPF_SYSCALL",
            class,
            BpfHelper::BPF_FUNC_redirect_peer,
        ),
        (
            "bpf_redirect_neigh",
            "CONFIG_INET",
            class,
            BpfHelper::BPF_FUNC_redirect_neigh,
        ),
        (
            "bpf_check_mtu",
            "CONFIG_NET",
            class,
            BpfHelper::BPF_FUNC_check_mtu,
        ),
        (
            "bpf_skc_lookup_tcp",
            "CONFIG_INET",
            class,
            BpfHelper::BPF_FUNC_skc_lookup_tcp,
        ),
        (
            "bpf_get_netns_cookie",
            "CONFIG_CGROUP_BPF",
            host,
            BpfHelper::BPF_FUNC_get_netns_cookie,
        ),
    ]
}
