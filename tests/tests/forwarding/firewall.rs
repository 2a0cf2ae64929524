//! The host's own packet filters, set while flows pass by them.

use super::*;

/// A rule has its say within this time.
const SOON: Duration = Duration::from_secs(1);

/// A connection that stays open, and says whether it still carries.
struct Held(TcpStream);

impl Held {
    fn new(lab: &Lab) -> Self {
        let to: SocketAddr = "203.0.113.2:7000".parse().unwrap();
        let stream = lab.lan.enter(move || TcpStream::connect(to).unwrap());
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        Self(stream)
    }

    fn carries(&mut self) -> bool {
        let mut answer = [0; 64];
        self.0.write_all(b"x").unwrap();
        self.0.read(&mut answer).is_ok_and(|length| length > 0)
    }
}

/// A server in the container that answers every byte at once.
fn answering(lab: &Lab) {
    let listener = lab
        .container
        .enter(|| std::net::TcpListener::bind("0.0.0.0:70").unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 64];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                drop(stream.write_all(&buffer[..length]));
            }
        }
    });
}

/// Sets rules while a connection is held, and takes them away again.
fn holds_within_a_second(set: &[&str], unset: &[&str]) {
    let (lab, _datapath) = lab("");
    answering(&lab);
    let publish = ["publish", "7000:70", "--to", "172.17.0.2"];
    assert!(_datapath.cli(&publish).status.success());
    until_fast(&lab);
    let mut held = Held::new(&lab);
    assert!(held.carries());
    command(&lab, set);
    let since = Instant::now();
    while held.carries() {
        assert!(since.elapsed() < SOON, "{set:?} had no say");
    }
    assert!(tcp_exchange(&lab.lan, "203.0.113.2:8080", vec![1]).is_err());
    command(&lab, unset);
    wait_until("the connection to go on", || held.carries());
    until_fast(&lab);
}

fn command(lab: &Lab, words: &[&str]) {
    let [program, arguments @ ..] = words else {
        unreachable!("a command has a name")
    };
    run(lab.host.command(program).args(arguments) as &mut Command);
}

#[test]
fn an_nftables_rule_has_its_say_within_a_second() {
    let rules = "add table inet guard; \
                 add chain inet guard f { type filter hook forward priority 0; policy accept; }; \
                 add rule inet guard f ip daddr 172.17.0.2 drop; \
                 add rule inet guard f ip saddr 172.17.0.2 drop";
    holds_within_a_second(&["nft", rules], &["nft", "delete table inet guard"]);
}

#[test]
fn a_policy_of_nftables_has_its_say_too() {
    let rules = "add table ip guard; \
                 add chain ip guard f { type filter hook forward priority 0; policy drop; }";
    holds_within_a_second(&["nft", rules], &["nft", "flush ruleset"]);
}

/// Where only packets pass that the bridge itself takes.
#[test]
fn a_rule_of_the_bridge_has_its_say_too() {
    let rules = "add table bridge guard; \
                 add chain bridge guard i { type filter hook input priority 0; policy accept; }; \
                 add rule bridge guard i ip saddr 172.17.0.2 drop";
    holds_within_a_second(&["nft", rules], &["nft", "delete table bridge guard"]);
}

/// Where only packets of one interface pass, before any protocol has them.
#[test]
fn rules_of_an_interface_have_their_say_too() {
    for family in ["netdev", "inet"] {
        let rules = format!(
            "add table {family} guard; \
             add chain {family} guard i {{ type filter hook ingress device eth0 priority 0; policy accept; }}; \
             add rule {family} guard i ip daddr 172.17.0.2 drop"
        );
        let unset = format!("delete table {family} guard");
        holds_within_a_second(&["nft", &rules], &["nft", &unset]);
    }
}

#[test]
fn an_iptables_rule_has_its_say_within_a_second() {
    holds_within_a_second(
        &[
            "iptables-legacy",
            "-A",
            "FORWARD",
            "-d",
            "172.17.0.2",
            "-j",
            "DROP",
        ],
        &["iptables-legacy", "-F", "FORWARD"],
    );
}

#[test]
fn a_policy_of_iptables_has_its_say_too() {
    holds_within_a_second(
        &["iptables-legacy", "-P", "FORWARD", "DROP"],
        &["iptables-legacy", "-P", "FORWARD", "ACCEPT"],
    );
}

#[test]
fn iptables_over_nftables_counts_as_well() {
    holds_within_a_second(
        &[
            "iptables-nft",
            "-A",
            "FORWARD",
            "-d",
            "172.17.0.2",
            "-j",
            "DROP",
        ],
        &["iptables-nft", "-F", "FORWARD"],
    );
}

#[test]
fn empty_chains_and_rules_elsewhere_change_nothing() {
    let (lab, datapath) = lab("");
    command(
        &lab,
        &[
            "nft",
            "add table inet own; \
             add chain inet own i { type filter hook input priority 0; policy accept; }; \
             add rule inet own i tcp dport 22 accept; \
             add chain inet own f { type filter hook forward priority 0; policy accept; }",
        ],
    );
    command(
        &lab,
        &[
            "iptables-legacy",
            "-A",
            "INPUT",
            "-p",
            "tcp",
            "--dport",
            "22",
            "-j",
            "ACCEPT",
        ],
    );
    until_fast(&lab);
    drop(datapath);
}
