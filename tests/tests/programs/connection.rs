//! TCP as the tables tell it: which segments open, carry on and end a connection.

use datapath_common::reason::Reason;

use crate::{
    frame::{ACK, FIN, Frame, RST, SYN, tcp},
    host::{Hook, Host, Net, nets},
};

/// A connection from outside to a published port, and the segments of its two sides.
struct Connection<'a> {
    host: &'a Host,
    net: Net,
    port: u16,
}

impl Connection<'_> {
    /// The client's segment, and what the endpoint gets.
    fn client(&self, flags: u8, seq: u32, ack: u32) -> (Frame, Frame) {
        let (client, net) = (self.net.world(self.port), &self.net);
        let to = |there| tcp(client, there, flags).numbers(seq, ack);
        (to(net.host(8080)), to(net.endpoint(80)))
    }

    /// The endpoint's segment, and what the client gets.
    fn server(&self, flags: u8, seq: u32, ack: u32) -> (Frame, Frame) {
        let (client, net) = (self.net.world(self.port), &self.net);
        let from = |here| tcp(here, client, flags).numbers(seq, ack);
        (from(net.endpoint(80)), from(net.host(8080)))
    }

    fn says(&self, says: &str, flags: u8, seq: u32, ack: u32) {
        let (asked, led) = self.client(flags, seq, ack);
        self.host
            .case(says, Hook::Arrives, asked)
            .becomes(Reason::Flow, led);
    }

    fn answers(&self, says: &str, flags: u8, seq: u32, ack: u32) {
        let (inside, shown) = self.server(flags, seq, ack);
        self.host
            .case(says, Hook::Leaves, inside)
            .becomes(Reason::Flow, shown);
    }

    fn open(host: &'_ Host, net: Net, port: u16) -> Connection<'_> {
        let connection = Connection { host, net, port };
        let (asked, led) = connection.client(SYN, 999, 0);
        host.case("SYN", Hook::Arrives, asked)
            .becomes(Reason::Publish, led);
        connection.answers("SYN-ACK", SYN | ACK, 4999, 1000);
        connection.says("ACK", ACK, 1000, 5000);
        connection.is("ESTABLISHED");
        connection
    }

    /// What `conntrack -L` would call its state.
    fn is(&self, state: &str) {
        let port = self.port.to_string();
        let shown = self.host.datapath.cli(&["flows", "--json"]);
        let text = String::from_utf8(shown.stdout).expect("text");
        let flows: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let flow = find(&flows, &port, &self.net).unwrap_or_else(|| panic!("{port} in {text}"));
        assert!(
            flow.to_string().contains(&format!("\"{state}\"")),
            "{flow} is not {state}"
        );
    }
}

fn find<'a>(flows: &'a serde_json::Value, port: &str, net: &Net) -> Option<&'a serde_json::Value> {
    let all = flows
        .as_array()
        .or_else(|| flows.get("flows")?.as_array())?;
    let (host, client) = (net.host.to_string(), net.world.to_string());
    all.iter().find(|flow| {
        let text = flow.to_string();
        [host.as_str(), client.as_str(), port]
            .iter()
            .all(|part| text.contains(*part))
    })
}

#[test]
fn each_side_closes_its_half() {
    let host = Host::new();
    for net in nets() {
        let connection = Connection::open(&host, net, 40001);
        connection.says("FIN", FIN | ACK, 1000, 5000);
        connection.is("FIN_WAIT");
        for seq in [5000, 5007, 5014] {
            connection.answers("data after the other's FIN", ACK, seq, 1001);
        }
        connection.is("FIN_WAIT");
        connection.answers("FIN", FIN | ACK, 5021, 1001);
        connection.is("TIME_WAIT");
        connection.says("last ACK", ACK, 1001, 5022);
        connection.answers("FIN again", FIN | ACK, 5021, 1001);
        connection.says("SYN for a new one", SYN, 9000, 0);
        connection.is("SYN_SENT");
    }
}

/// RFC 5961, 3.2 and RFC 7857, 2: a reset is passed on, but ends the connection only where it stands exactly
/// at the next byte expected.
#[test]
fn only_an_exact_reset_ends_it() {
    let host = Host::new();
    for net in nets() {
        let connection = Connection::open(&host, net, 40002);
        connection.answers("ACK of nothing new", ACK, 5000, 1000);
        for seq in [0, 999, 1001, 1000 + 4096, u32::MAX] {
            connection.says("a guessed reset", RST, seq, 0);
            connection.is("ESTABLISHED");
        }
        connection.answers("the challenge", ACK, 5000, 1000);
        connection.says("the exact reset", RST, 1000, 0);
        connection.is("CLOSE");
        connection.answers("what was under way", ACK, 5000, 1000);
        connection.is("CLOSE");
    }
}

/// RFC 5961, 4: whoever gets a SYN on a live connection asks back, and that answer must find its way.
#[test]
fn a_syn_on_a_live_connection_changes_nothing() {
    let host = Host::new();
    for net in nets() {
        let connection = Connection::open(&host, net, 40003);
        connection.says("SYN", SYN, 77, 0);
        connection.is("ESTABLISHED");
        connection.answers("the challenge", ACK, 5000, 1000);
        connection.says("data", ACK, 1000, 5000);
    }
}

#[test]
fn only_a_syn_opens() {
    let host = Host::new();
    for net in nets() {
        for flags in [
            0,
            ACK,
            RST,
            RST | ACK,
            FIN,
            FIN | ACK,
            SYN | ACK,
            SYN | FIN,
            SYN | RST,
        ] {
            let stray = tcp(net.world(40004), net.host(8080), flags);
            host.case(&format!("flags {flags:#x}"), Hook::Arrives, stray)
                .is(Reason::NoFlow);
        }
    }
}

/// RFC 5382, REQ-2: both sides' SYNs cross.
#[test]
fn a_simultaneous_open() {
    let host = Host::new();
    for net in nets() {
        let (inside, shown, peer) = (net.endpoint(1234), net.host(1234), net.world(80));
        host.case("SYN", Hook::Leaves, tcp(inside, peer, SYN))
            .becomes(Reason::Masquerade, tcp(shown, peer, SYN));
        for (says, hook, from, to) in [
            (
                "the peer's SYN",
                Hook::Arrives,
                tcp(peer, shown, SYN),
                tcp(peer, inside, SYN),
            ),
            (
                "SYN-ACK",
                Hook::Leaves,
                tcp(inside, peer, SYN | ACK),
                tcp(shown, peer, SYN | ACK),
            ),
            (
                "the peer's SYN-ACK",
                Hook::Arrives,
                tcp(peer, shown, SYN | ACK),
                tcp(peer, inside, SYN | ACK),
            ),
            (
                "ACK",
                Hook::Leaves,
                tcp(inside, peer, ACK),
                tcp(shown, peer, ACK),
            ),
        ] {
            host.case(says, hook, from).becomes(Reason::Flow, to);
        }
    }
}

/// A client that used a port before meets what is left of it: a SYN-ACK of long ago, or the answer of a server that
/// still holds the old connection (RFC 9293, 3.5.2; RFC 5961, 4.2). It resets that, and begins anew.
#[test]
fn what_is_left_of_an_old_connection_hinders_no_new_one() {
    let host = Host::new();
    for net in nets() {
        let (inside, shown, server) = (net.endpoint(1234), net.host(1234), net.world(80));
        let out = |says, reason, flags, seq, ack| {
            let frame = |from| tcp(from, server, flags).numbers(seq, ack);
            host.case(says, Hook::Leaves, frame(inside))
                .becomes(reason, frame(shown));
        };
        let back = |says, flags, seq, ack| {
            let frame = |to| tcp(server, to, flags).numbers(seq, ack);
            host.case(says, Hook::Arrives, frame(shown))
                .becomes(Reason::Flow, frame(inside));
        };
        out("SYN", Reason::Masquerade, SYN, 999, 0);
        back("a SYN-ACK of long ago", SYN | ACK, 4711, 777);
        out("its reset", Reason::Flow, RST, 777, 0);
        out("SYN again", Reason::Flow, SYN, 999, 0);
        back("SYN-ACK", SYN | ACK, 4999, 1000);
        out("ACK", Reason::Flow, ACK, 1000, 5000);
        back("data", ACK, 5000, 1000);
        // The client starts anew and knows nothing of it; the server still holds it.
        out("SYN on the old connection", Reason::Flow, SYN, 70_000, 0);
        back("the challenge", ACK, 5007, 1000);
        out("its reset", Reason::Flow, RST, 1000, 0);
        out("SYN once more", Reason::Flow, SYN, 70_000, 0);
        back("SYN-ACK of the new one", SYN | ACK, 80_000, 70_001);
        out("ACK of the new one", Reason::Flow, ACK, 70_001, 80_001);
        back("data of the new one", ACK, 80_001, 70_001);
    }
}
