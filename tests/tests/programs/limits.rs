//! How many flows an endpoint may have: so many and no more, whatever became of those that it had.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use datapath_common::{
    conntrack::timeouts::SECOND,
    family::{Address as _, V4, V6},
    limit::Held,
    reason::Reason,
};
use datapath_tests::lab::{run, wait_until};
use datapath_user::kernel::tables::{Tabled, Tables};

use crate::{
    case::{DROP, GO_ON, REDIRECT},
    frame::{ACK, Frame, SYN, ping, tcp, udp},
    host::{Hook, Host, Net, nets},
};

const LIMIT: u64 = 4;
const TABLES: &str =
    "[conntrack]\nmax_flows_per_endpoint = 4\ngc_interval = \"1s\"\nudp = \"5s\"\n";

/// A host that knows where its endpoint is.
fn host() -> Host {
    let host = Host::with("forwarding = \"kernel\"", TABLES);
    for net in nets() {
        run(host
            .lab
            .host
            .command("ping")
            .args(["-c1", "-W5", &net.endpoint.to_string()]));
    }
    let tables = Tables::new(host.datapath.pins());
    wait_until("the endpoint to be known in both families", || {
        knows::<V4>(&tables) && knows::<V6>(&tables)
    });
    host
}

fn knows<F: Tabled>(tables: &Tables) -> bool {
    let (_, ends) = tables.endpoints::<F>().unwrap();
    nets()
        .iter()
        .any(|net| F::Addr::from_ip(net.endpoint).is_some_and(|addr| ends.get(&addr, 0).is_ok()))
}

/// What was counted, by address.
fn held<F: Tabled>(host: &Host) -> BTreeMap<F::Addr, Held> {
    let tables = Tables::new(host.datapath.pins());
    tables.held::<F>().unwrap().iter().flatten().collect()
}

/// All that an endpoint may have, from its ports 1 to 4.
fn fill(host: &Host, net: &Net) {
    for port in 1..=4 {
        host.case(
            "one that it may have",
            Hook::Leaves,
            first(net.endpoint(port), net),
        )
        .becomes(Reason::Masquerade, first(net.host(port), net));
    }
}

/// A first segment from an endpoint's port.
fn first(from: SocketAddr, net: &Net) -> Frame {
    tcp(from, net.world(443), SYN)
}

/// Waits until flows have been counted twice more, so that all that came before is in the last count.
fn wait_for_counts(host: &Host) {
    for _ in 0..2 {
        let (four, six) = (held::<V4>(host), held::<V6>(host));
        wait_until("a count", || {
            let moved = |before: u64, after: u64| before != after;
            let (now4, now6) = (held::<V4>(host), held::<V6>(host));
            four.iter()
                .all(|(addr, held)| now4.get(addr).is_none_or(|now| moved(held.at, now.at)))
                && six
                    .iter()
                    .all(|(addr, held)| now6.get(addr).is_none_or(|now| moved(held.at, now.at)))
        });
    }
}

#[test]
fn so_many_flows_and_no_more() {
    let host = host();
    for net in nets() {
        let shown = |port| net.host(port);
        // Of all kinds: a connection, datagrams, an echo, and one to a published port.
        host.case("1", Hook::Leaves, first(net.endpoint(1), &net))
            .becomes(Reason::Masquerade, first(shown(1), &net));
        host.case("2", Hook::Leaves, first(net.endpoint(2), &net))
            .becomes(Reason::Masquerade, first(shown(2), &net));
        host.case("3", Hook::Leaves, ping(net.endpoint(3), net.world(0)))
            .becomes(Reason::Masquerade, ping(shown(3), net.world(0)));
        let turned = tcp(net.endpoint(4), net.host(8080), SYN);
        host.case("4", Hook::Bridge, turned)
            .redirects(Reason::Publish, {
                tcp(net.host(4), net.endpoint(80), SYN).hops(63)
            });
        for (says, hook, frame) in [
            ("a connection", Hook::Leaves, first(net.endpoint(5), &net)),
            (
                "datagrams",
                Hook::Leaves,
                udp(net.endpoint(5), net.world(53)),
            ),
            ("an echo", Hook::Leaves, ping(net.endpoint(5), net.world(0))),
            (
                "a hairpin",
                Hook::Bridge,
                tcp(net.endpoint(5), net.host(8080), SYN),
            ),
        ] {
            host.case(says, hook, frame).is(Reason::EndpointLimit);
        }
        // What it has goes on, strangers reach its ports, and another endpoint has its own limit.
        host.case("what it has", Hook::Leaves, first(net.endpoint(1), &net))
            .becomes(Reason::Flow, first(shown(1), &net));
        let asked = |to| tcp(net.world(40000), to, SYN);
        host.case("from outside", Hook::Arrives, asked(net.host(8080)))
            .becomes(Reason::Publish, asked(net.endpoint(80)));
        host.case("a neighbour", Hook::Leaves, first(net.neighbour(6), &net))
            .becomes(Reason::Masquerade, first(shown(6), &net));
        // No other address helps: those where nobody is known have one limit together.
        for port in 7..10 {
            let forged = SocketAddr::new(unknown(&net, port), port);
            host.case("a forged one", Hook::Leaves, first(forged, &net))
                .becomes(Reason::Masquerade, first(shown(port), &net));
        }
        let forged = SocketAddr::new(unknown(&net, 10), 10);
        host.case("one too many", Hook::Leaves, first(forged, &net))
            .is(Reason::EndpointLimit);
    }
}

/// An address of the network where nobody is.
fn unknown(net: &Net, number: u16) -> IpAddr {
    match net.endpoint {
        IpAddr::V4(_) => [172, 17, 9, number as u8].into(),
        IpAddr::V6(_) => [0xfd00, 0x17, 0, 0, 0, 0, 9, number].into(),
    }
}

/// Flows that live stay counted however often they are counted anew; those that ended make room.
#[test]
fn the_count_is_that_of_living_flows() {
    let host = host();
    let fifth = |net: &Net| first(net.endpoint(5), net);
    for net in nets() {
        for port in 1..=2 {
            host.case(
                "one that stays",
                Hook::Leaves,
                first(net.endpoint(port), &net),
            )
            .becomes(Reason::Masquerade, first(net.host(port), &net));
            let answer = |to| tcp(net.world(443), to, SYN | ACK);
            host.case("its answer", Hook::Arrives, answer(net.host(port)))
                .becomes(Reason::Flow, answer(net.endpoint(port)));
            let third = |from| tcp(from, net.world(443), ACK);
            host.case("its third segment", Hook::Leaves, third(net.endpoint(port)))
                .becomes(Reason::Flow, third(net.host(port)));
        }
        for port in 3..=4 {
            let passing = |from| udp(from, net.world(53));
            host.case("one that passes", Hook::Leaves, passing(net.endpoint(port)))
                .becomes(Reason::Masquerade, passing(net.host(port)));
        }
        host.case("one too many", Hook::Leaves, fifth(&net))
            .is(Reason::EndpointLimit);
    }
    for net in nets() {
        // They may end on either side of a count, so the second place may come later.
        for port in [5, 6] {
            let frame = first(net.endpoint(port), &net).bytes();
            wait_until("one that passed to make room", || {
                let ran = host.run(Hook::Leaves, frame.clone());
                assert!(ran.verdict == DROP || ran.verdict == GO_ON, "{ran:?}");
                ran.verdict == GO_ON
            });
        }
    }
    for _ in 0..2 {
        wait_for_counts(&host);
        for net in nets() {
            host.case(
                "still one too many",
                Hook::Leaves,
                first(net.endpoint(7), &net),
            )
            .is(Reason::EndpointLimit);
        }
    }
    let held = held::<V4>(&host);
    assert!(held.values().any(|held| held.flows == LIMIT), "{held:?}");
}

/// The limit is read again with the configuration, and taken away with it.
#[test]
fn the_limit_can_be_changed() {
    let host = host();
    let [net, _] = nets();
    fill(&host, &net);
    for (from, to) in [("= 4", "= 5"), ("= 5", "= 0")] {
        host.case("one too many", Hook::Leaves, first(net.endpoint(9), &net))
            .is(Reason::EndpointLimit);
        let key = |value: &str| format!("max_flows_per_endpoint {value}");
        host.datapath.edit(&key(from), &key(to));
        host.datapath.signal("-HUP");
        let port = if to == "= 5" { 5 } else { 9 };
        wait_until("the new limit", || {
            let frame = first(net.endpoint(port), &net).bytes();
            host.run(Hook::Leaves, frame).verdict == GO_ON
        });
    }
    wait_until("what was counted to be forgotten", || {
        held::<V4>(&host).is_empty()
    });
}

/// Without a service nobody counts, so nothing that was counted long ago keeps an endpoint from anything.
#[test]
fn without_a_service_no_limit_holds_for_long() {
    let mut host = host();
    let [net, _] = nets();
    fill(&host, &net);
    host.datapath.kill();
    host.case("one too many", Hook::Leaves, first(net.endpoint(5), &net))
        .is(Reason::EndpointLimit);
    // As if a minute had passed.
    let mut map = Tables::new(host.datapath.pins()).settings().unwrap();
    let mut settings = map.get(&0, 0).unwrap();
    assert!(settings.count_patience >= 60 * SECOND);
    settings.count_patience = SECOND;
    map.set(0, settings, 0).unwrap();
    wait_until("the last count to be too old", || {
        let frame = first(net.endpoint(5), &net).bytes();
        host.run(Hook::Leaves, frame).verdict == GO_ON
    });
}

/// Those to an endpoint of the other family count as any other.
#[test]
fn flows_between_the_families_count() {
    let across = "[[publish]]\nlisten = \"[::]:8064\"\nto = \"172.17.0.2:80\"\n";
    let host = Host::with("forwarding = \"kernel\"", &format!("{TABLES}{across}"));
    let [_, net] = nets();
    let asks = |port| tcp(net.endpoint(port), net.host(8064), SYN);
    for port in 1..=4 {
        let ran = host.run(Hook::Bridge, asks(port).bytes());
        assert_eq!(ran.verdict, REDIRECT, "{port}");
    }
    host.case("one too many", Hook::Bridge, asks(5))
        .is(Reason::EndpointLimit);
}
