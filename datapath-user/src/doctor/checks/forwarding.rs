//! Whether the kernel forwards at all.

use super::super::{Found, Subject, fine, note, subject::sysctl, todo};

pub(super) fn look(subject: &Subject) -> Found {
    let mut found = Found::new();
    match sysctl("net.ipv4.ip_forward").as_deref() {
        Some("0") => found.push(todo(
            "net.ipv4.ip_forward is 0: this host forwards nothing to containers",
            "`sysctl -w net.ipv4.ip_forward=1`, and the same in /etc/sysctl.d/ for the next boot \
             (Docker sets it when it starts, too)",
        )),
        _ => found.push(fine("IPv4 is forwarded")),
    }
    let networks = subject.desired.networks.iter();
    let mut subnets = networks.flat_map(|(network, _)| &network.subnets);
    let six = subnets.any(|subnet| matches!(subnet, ipnet::IpNet::V6(_)));
    match sysctl("net.ipv6.conf.all.forwarding").as_deref() {
        Some("0") if six => found.push(todo(
            "net.ipv6.conf.all.forwarding is 0, and a network has IPv6 addresses",
            "`sysctl -w net.ipv6.conf.all.forwarding=1`; where the host takes its own address by router \
             advertisements, `sysctl -w net.ipv6.conf.IFACE.accept_ra=2` first",
        )),
        Some("0") => found.push(note("IPv6 is not forwarded; no network has IPv6 addresses")),
        Some(_) => found.push(fine("IPv6 is forwarded")),
        None => found.push(note("this kernel has no IPv6")),
    }
    for bridge in subject.bridges() {
        if sysctl(&format!("net.ipv4.conf.{bridge}.forwarding")).as_deref() == Some("0") {
            found.push(note(format!("{bridge} does not forward IPv4")));
        }
    }
    found
}
