//! Idle flows end when their time is over, each by its own timeout, and not before.

use std::time::Duration;

use datapath_common::reason::Reason;
use datapath_tests::lab::wait_until;

use crate::{
    frame::{ACK, FIN, Frame, RST, SYN, ping, pong, tcp, udp},
    host::{Hook, Host, Net, nets},
};

/// A packet of an outward conversation: whether the endpoint sent it, and what it is and becomes.
type Said = (bool, fn(&Net) -> (Frame, Frame));

/// How many flows there are, as the service's own tools count them.
fn flows(host: &Host) -> usize {
    let shown = host.datapath.cli(&["flows", "--json"]).stdout;
    let shown: serde_json::Value = serde_json::from_slice(&shown).expect("JSON");
    let list = shown.as_array().or_else(|| shown["flows"].as_array());
    list.expect("a list of flows").len()
}

/// A segment from the endpoint, or one to it, and what it becomes.
fn segment<const OUT: bool, const FLAGS: u8>(net: &Net) -> (Frame, Frame) {
    let (inside, shown, server) = (net.endpoint(1234), net.host(1234), net.world(80));
    // A reset stands where the other side's acknowledgments do.
    let numbers = |frame: Frame| frame.numbers(2000, 2000);
    if OUT {
        (
            numbers(tcp(inside, server, FLAGS)),
            numbers(tcp(shown, server, FLAGS)),
        )
    } else {
        (
            numbers(tcp(server, shown, FLAGS)),
            numbers(tcp(server, inside, FLAGS)),
        )
    }
}

fn asked_udp(net: &Net) -> (Frame, Frame) {
    let server = net.world(53);
    (udp(net.endpoint(7), server), udp(net.host(7), server))
}

fn answered_udp(net: &Net) -> (Frame, Frame) {
    let server = net.world(53);
    (udp(server, net.host(7)), udp(server, net.endpoint(7)))
}

fn asked_echo(net: &Net) -> (Frame, Frame) {
    let server = net.world(0);
    (ping(net.endpoint(7), server), ping(net.host(7), server))
}

fn answered_echo(net: &Net) -> (Frame, Frame) {
    let server = net.world(0);
    (pong(server, net.host(7)), pong(server, net.endpoint(7)))
}

const ACK_FIN: u8 = ACK | FIN;
const SYN_ACK: u8 = SYN | ACK;

#[test]
fn each_ends_by_its_own() {
    let syn: Said = (true, segment::<true, SYN>);
    let syn_ack: Said = (false, segment::<false, SYN_ACK>);
    let ack: Said = (true, segment::<true, ACK>);
    let fin: Said = (true, segment::<true, ACK_FIN>);
    let their_fin: Said = (false, segment::<false, ACK_FIN>);
    let reset: Said = (false, segment::<false, RST>);
    let cases: Vec<(&str, Vec<Said>)> = vec![
        ("udp", vec![(true, asked_udp)]),
        ("udp_stream", vec![(true, asked_udp), (false, answered_udp)]),
        ("icmp", vec![(true, asked_echo), (false, answered_echo)]),
        ("tcp_syn_sent", vec![syn]),
        ("tcp_syn_recv", vec![syn, syn_ack]),
        ("tcp_established", vec![syn, syn_ack, ack]),
        ("tcp_fin_wait", vec![syn, syn_ack, ack, fin]),
        ("tcp_time_wait", vec![syn, syn_ack, ack, fin, their_fin]),
        ("tcp_close", vec![syn, syn_ack, ack, reset]),
    ];
    for (timeout, talk) in cases {
        let host = Host::with(
            "forwarding = \"kernel\"",
            &format!("[conntrack]\n{timeout} = \"2s\"\n"),
        );
        for net in nets() {
            for (number, (out, frames)) in talk.iter().enumerate() {
                let (from, to) = frames(&net);
                let hook = if *out { Hook::Leaves } else { Hook::Arrives };
                let reason = match number {
                    0 => Reason::Masquerade,
                    _ => Reason::Flow,
                };
                host.case(timeout, hook, from).becomes(reason, to);
            }
        }
        wait_until(&format!("{timeout} to be over"), || flows(&host) == 0);
        // The programs' clock goes in steps, and is a tick behind the one that the list is made by.
        std::thread::sleep(Duration::from_millis(100));
        for net in nets() {
            let (answer, _) = match timeout {
                "icmp" => answered_echo(&net),
                _ if timeout.starts_with("udp") => answered_udp(&net),
                _ => segment::<false, ACK>(&net),
            };
            host.case(timeout, Hook::Arrives, answer)
                .is(Reason::NotOurs);
        }
    }
    // A flow of another kind has its own time: with the shortest for all the others, this one stays.
    let host = Host::with(
        "forwarding = \"kernel\"",
        "[conntrack]\nudp = \"2s\"\nicmp = \"2s\"\ntcp_syn_sent = \"2s\"\n",
    );
    let [net, _] = nets();
    for (frames, reason) in [
        (asked_udp(&net), Reason::Masquerade),
        (asked_udp(&net), Reason::Flow),
    ] {
        host.case("asked", Hook::Leaves, frames.0)
            .becomes(reason, frames.1);
    }
    let (answer, led) = answered_udp(&net);
    host.case("answered", Hook::Arrives, answer)
        .becomes(Reason::Flow, led);
    std::thread::sleep(Duration::from_millis(2_500));
    let (asked, shown) = asked_udp(&net);
    host.case("still there", Hook::Leaves, asked)
        .becomes(Reason::Flow, shown);
}

/// A reset that is ahead of the last acknowledgment may have ended the connection, or not: it has the time of one that
/// is over, unless something follows.
#[test]
fn a_reset_that_may_count_leaves_little_time() {
    let host = Host::with(
        "forwarding = \"kernel\"",
        "[conntrack]\ntcp_close = \"2s\"\n",
    );
    for net in nets() {
        let server = net.world(80);
        let say = |port: u16, out: bool, flags: u8, seq: u32| {
            let (inside, shown) = (net.endpoint(port), net.host(port));
            let numbers = |frame: Frame| frame.numbers(seq, 2000);
            let (hook, from, to) = if out {
                let frame = |from| numbers(tcp(from, server, flags));
                (Hook::Leaves, frame(inside), frame(shown))
            } else {
                let frame = |to| numbers(tcp(server, to, flags));
                (Hook::Arrives, frame(shown), frame(inside))
            };
            let reason = if out && flags == SYN {
                Reason::Masquerade
            } else {
                Reason::Flow
            };
            host.case(&format!("{flags:#x}"), hook, from)
                .becomes(reason, to);
        };
        for port in [1, 2, 3] {
            say(port, true, SYN, 1999);
            say(port, false, SYN_ACK, 1999);
            say(port, true, ACK, 2000);
            // 500 bytes of the server's were under way when it reset the connection.
            let ahead = if port == 3 { 1500 } else { 2500 };
            say(port, false, RST, ahead);
        }
        // The client of the second lives; the third's reset was of long ago.
        say(2, true, ACK, 2000);
    }
    wait_until("the first to be over", || flows(&host) == 4);
    for net in nets() {
        let server = net.world(80);
        host.case("the first", Hook::Arrives, tcp(server, net.host(1), ACK))
            .is(Reason::NotOurs);
        for port in [2, 3] {
            host.case(
                "the others",
                Hook::Arrives,
                tcp(server, net.host(port), ACK),
            )
            .becomes(Reason::Flow, tcp(server, net.endpoint(port), ACK));
        }
    }
}
