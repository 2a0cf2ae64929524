//! Allow-lists: who may ask for a published port, judged by the longest of many prefixes.

use datapath_common::reason::Reason;

use crate::{
    frame::{ACK, SYN, tcp, udp},
    host::{Hook, Host, nets},
};

/// Ports with lists, beside those of every test: 9000 for one host, 9001 for what no case here is in, 9002 for
/// everybody outside and one of the two endpoints.
const LISTED: &str = r#"
[[publish]]
listen = "0.0.0.0:9000"
to = "172.17.0.2:80"
allow = ["192.0.2.0/24", "203.0.113.9"]
[[publish]]
listen = "[::]:9000"
to = "[fd00:17::2]:80"
allow = ["2001:db8:1::/48", "2001:db8::9"]
[[publish]]
listen = "0.0.0.0:9001"
to = "172.17.0.2:53"
protocol = "udp"
allow = ["203.0.113.8/32", "203.0.112.0/24", "172.18.0.0/16"]
[[publish]]
listen = "[::]:9001"
to = "[fd00:17::2]:53"
protocol = "udp"
allow = ["2001:db8::8/128", "2001:db8:0:1::/64", "fd00:18::/64"]
[[publish]]
listen = "0.0.0.0:9002"
to = "172.17.0.2:53"
protocol = "udp"
allow = ["0.0.0.0/1", "192.0.0.0/4", "172.17.0.3"]
[[publish]]
listen = "[::]:9002"
to = "[fd00:17::2]:53"
protocol = "udp"
allow = ["2000::/3", "fd00:17::3"]
"#;

#[test]
fn only_the_sources_that_are_named() {
    let host = Host::with("forwarding = \"kernel\"", LISTED);
    for net in nets() {
        let (client, other) = (net.world(40000), net.other(40000));
        let endpoint = net.endpoint(80);
        host.case("named", Hook::Arrives, tcp(client, net.host(9000), SYN))
            .becomes(Reason::Publish, tcp(client, endpoint, SYN));
        host.case("its flow", Hook::Leaves, tcp(endpoint, client, SYN | ACK))
            .becomes(Reason::Flow, tcp(net.host(9000), client, SYN | ACK));
        for flags in [SYN, ACK] {
            let frame = tcp(other, net.host(9000), flags);
            host.case("not named", Hook::Arrives, frame)
                .is(Reason::NotAllowed);
        }
        for source in [client, other] {
            let frame = udp(source, net.host(9001));
            host.case("its neighbours are", Hook::Arrives, frame)
                .is(Reason::NotAllowed);
            host.case("wide", Hook::Arrives, udp(source, net.host(9002)))
                .becomes(Reason::Publish, udp(source, net.endpoint(53)));
        }
        let anybody = net.other(40001);
        host.case("no list", Hook::Arrives, udp(anybody, net.host(5300)))
            .becomes(Reason::Publish, udp(anybody, net.endpoint(53)));
    }
}

#[test]
fn endpoints_are_asked_for_their_own_address() {
    let host = Host::with("forwarding = \"kernel\"", LISTED);
    for net in nets() {
        let neighbour = net.neighbour(40000);
        let turned = udp(net.host(40000), net.endpoint(53)).hops(63);
        host.case("named", Hook::Bridge, udp(neighbour, net.host(9002)))
            .redirects(Reason::Publish, turned);
        let own = udp(net.endpoint(40000), net.host(9002));
        host.case("not named", Hook::Bridge, own)
            .is(Reason::NotAllowed);
        let frame = tcp(neighbour, net.host(9000), SYN);
        host.case("another port's", Hook::Bridge, frame)
            .is(Reason::NotAllowed);
    }
}
