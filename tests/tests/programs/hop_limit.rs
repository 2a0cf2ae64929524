//! Packets sent past the stack: one hop less to live, as by any router, and the next link's header.

use datapath_common::reason::Reason;

use crate::{
    frame::{SYN, tcp, udp},
    host::{Hook, Host, nets},
};

/// Hairpin always goes past the stack, so the programs do there what the stack would.
#[test]
fn one_less_for_a_hairpin() {
    let host = Host::new();
    for net in nets() {
        for (port, hops) in [(1, 64), (2, 255), (3, 2), (4, 128)] {
            let asked = udp(net.neighbour(port), net.host(5300)).hops(hops);
            let led = udp(net.host(port), net.endpoint(53)).hops(hops - 1);
            host.case(&format!("{hops} hops"), Hook::Bridge, asked)
                .redirects(Reason::Publish, led);
        }
    }
}

#[test]
fn none_left() {
    let host = Host::new();
    for net in nets() {
        for hops in [0, 1] {
            let says = format!("{hops} hops");
            let asked = tcp(net.neighbour(1), net.host(8080), SYN).hops(hops);
            host.case(&says, Hook::Bridge, asked).ends(Reason::HopLimit);
        }
    }
}
