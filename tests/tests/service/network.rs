//! The host's network as it changes under the service: renamed, resized, removed, switched.

use std::net::UdpSocket;

use datapath_tests::lab::{
    Datapath, Lab, PORTS,
    load::{self, Load, Plan},
    run, tcp_echo, tcp_exchange, wait_until,
};

use crate::{
    healed, reaches,
    talk::{self, Talk},
};

const SOME: Plan = Plan {
    held: 20,
    connections: 20,
    datagrams: 100,
};

#[test]
fn renamed_in_a_loop_under_traffic() {
    let lab = Lab::new();
    // By its routes, not by its name: that is what stays.
    let datapath = Datapath::start_on(&lab, "uplinks = \"auto\"", load::PORTS);
    let load = Load::begin(&lab, SOME);
    for number in 0..30 {
        lab.host
            .ip(&format!("link set eth{number} name eth{}", number + 1));
    }
    lab.host.ip("link set eth30 name eth0");
    load.end().assert_unnoticed(5);
    healed("one program on each hook", || {
        lab.host.classifiers("eth0") == ["uplink_ingress", "uplink_egress"]
    });
    assert!(datapath.cli(&["status"]).status.success());
}

#[test]
fn an_uplink_that_is_down_for_a_while_keeps_its_programs() {
    let lab = Lab::new();
    let datapath = Datapath::start_on(&lab, "uplinks = \"auto\"", load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut held = Talk::open(&lab.lan, "203.0.113.2:8080").unwrap();
    let looks = || {
        let status = datapath.cli(&["status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
        status["service"]["reconciliations"].as_u64().unwrap()
    };
    let before = looks();
    lab.host.ip("link set eth0 down");
    // It has no routes then, and the service has seen that.
    healed("it looked again", || looks() > before);
    assert_eq!(
        lab.host.classifiers("eth0"),
        ["uplink_ingress", "uplink_egress"]
    );
    lab.host.ip("link set eth0 up");
    held.ask().expect("the first packet finds the program");
    assert!(reaches(&lab));
}

#[test]
fn another_mtu_is_no_fault() {
    let lab = Lab::new();
    let _datapath = Datapath::start(&lab, load::PORTS);
    tcp_echo(&lab.container, "0.0.0.0:80");
    let payload = vec![7; 300_000];
    for mtu in [9000, 1280, 1500] {
        for netns in [&lab.host, &lab.lan] {
            netns.ip(&format!("link set eth0 mtu {mtu}"));
        }
        let answer = tcp_exchange(&lab.lan, "203.0.113.2:8080", payload.clone());
        assert!(answer.unwrap() == payload, "MTU {mtu}");
    }
}

#[test]
fn a_bridge_goes_with_its_ports_published_and_the_others_do_not_notice() {
    let lab = Lab::new();
    lab.add_bridge("br-b", &["172.18.0.1/16"]);
    let config = format!(
        "{}\n[[publish]]\nlisten = \"0.0.0.0:9090\"\nto = \"172.18.0.2:80\"\n\
         [[network]]\nbridge = \"br-b\"\nsubnets = [\"172.18.0.0/16\"]\n",
        load::PORTS
    );
    let datapath = Datapath::start(&lab, &config);
    let other = lab.add_container("b", "br-b", &["172.18.0.2/16"], &["172.18.0.1"]);
    talk::serve(&other, "0.0.0.0:80");
    let load = Load::begin(&lab, SOME);
    let answers = || Talk::open(&lab.lan, "203.0.113.2:9090").is_ok();
    healed("the other bridge's port", answers);
    lab.host.ip("link del br-b");
    assert!(!answers());
    healed("it is said", || {
        let said = datapath.cli(&["status"]).stdout;
        String::from_utf8_lossy(&said).contains("interface br-b does not exist")
    });
    lab.add_bridge("br-b", &["172.18.0.1/16"]);
    lab.host.ip("link set vb master br-b up");
    healed("the bridge made anew", answers);
    load.end().assert_unnoticed(5);
}

#[test]
fn veths_that_come_and_go_leave_nothing() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut held = Talk::open(&lab.lan, "203.0.113.2:8080").unwrap();
    let mut churn = |times: u32| {
        for _ in 0..times {
            let passing = lab.add_container("p", "docker0", &["172.17.0.9/16"], &["172.17.0.1"]);
            run(passing.command("ping").args(["-c1", "-W2", "203.0.113.9"]));
            drop(passing);
            // The peer goes with the namespace, a moment later.
            wait_until("the port is gone", || !has_link(&lab, "vp"));
            held.ask().expect("the one that stays");
        }
    };
    let links = || datapath.links("").len();
    let first = links();
    // What is kept from the first ones on is there by then.
    churn(6);
    healed("links as at first", || links() == first);
    let before = datapath.holds();
    churn(12);
    healed("links as before", || links() == first);
    healed("descriptors as before", || datapath.holds().0 <= before.0);
    let after = datapath.holds();
    println!("descriptors and KiB: {before:?}, then {after:?}");
    assert!(after.1 <= before.1 + 1024, "{before:?}, then {after:?}");
}

fn has_link(lab: &Lab, name: &str) -> bool {
    lab.host
        .command("ip")
        .args(["link", "show", name])
        .output()
        .unwrap()
        .status
        .success()
}

#[test]
fn forwarding_and_filters_that_are_switched_under_it() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    assert!(reaches(&lab));
    let says = |words: &str| {
        healed(words, || {
            let said = datapath.cli(&["status"]).stdout;
            String::from_utf8_lossy(&said).contains(words)
        });
    };
    let sysctl = |setting: &str| run(lab.host.command("sysctl").args(["-qw", setting]));
    says("forwarding: IPv4 fast");
    sysctl("net.ipv4.ip_forward=0");
    says("forwarding: IPv4 kernel (this host does not forward)");
    sysctl("net.ipv4.ip_forward=1");
    says("forwarding: IPv4 fast");
    assert!(reaches(&lab));
    for strict in ["0", "1", "2"] {
        sysctl(&format!("net.ipv4.conf.all.rp_filter={strict}"));
        sysctl(&format!("net.ipv4.conf.eth0.rp_filter={strict}"));
        assert!(reaches(&lab), "rp_filter {strict}");
    }
    for words in [
        "iptables -A FORWARD -j ACCEPT",
        "iptables -F",
        "iptables -t nat -F",
        "nft flush ruleset",
    ] {
        let (program, arguments) = words.split_once(' ').unwrap();
        run(lab.host.command(program).args(arguments.split(' ')));
        assert!(reaches(&lab), "after {words}");
    }
    says("forwarding: IPv4 fast");
}

/// The kernel repeats an unanswered question for a neighbour after a second; with this so late that nobody waits for it.
const LATE: &str = "net.ipv4.neigh.docker0.retrans_time_ms=60000";

/// Sends something to the container, which nobody answers for. More than once, if need be: a while after a link went
/// down the kernel forgets the neighbours behind it, and its questions for them.
fn ask_in_vain(lab: &Lab) {
    wait_until("a question without an answer", || {
        lab.host.enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
            // Without a way there is no question yet.
            drop(socket.send_to(b"early", "172.17.0.2:9"));
        });
        let shown = run(lab.host.command("ip").args(["neigh", "show", "172.17.0.2"])).stdout;
        String::from_utf8_lossy(&shown).contains("INCOMPLETE")
    });
}

#[test]
fn an_endpoint_that_nobody_found_before_it_came_is_found_at_once() {
    let lab = Lab::new();
    tcp_echo(&lab.container, "0.0.0.0:80");
    run(lab.host.command("sysctl").args(["-qw", LATE]));
    lab.container.ip("addr del 172.17.0.2/16 dev eth0");
    ask_in_vain(&lab);
    lab.container.ip("addr add 172.17.0.2/16 dev eth0");
    lab.container.ip("route add default via 172.17.0.1");
    let _datapath = Datapath::start(&lab, PORTS);
    healed("the port", || {
        tcp_exchange(&lab.lan, "203.0.113.2:8080", b"x".to_vec()).is_ok()
    });
}

#[test]
fn an_endpoint_that_nobody_found_while_its_link_was_down_is_found_when_it_is_up() {
    let lab = Lab::new();
    tcp_echo(&lab.container, "0.0.0.0:80");
    run(lab.host.command("sysctl").args(["-qw", LATE]));
    let datapath = Datapath::start(&lab, PORTS);
    // All of it between two looks of the service, which would see to the question at once.
    datapath.frozen(|| {
        lab.host.ip("link set vc down");
        ask_in_vain(&lab);
        lab.host.ip("link set vc up");
    });
    healed("the port", || {
        tcp_exchange(&lab.lan, "203.0.113.2:8080", b"x".to_vec()).is_ok()
    });
}
