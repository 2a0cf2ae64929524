//! The program at the driver's level on real traffic: whatever the cards do to checksums, whether endpoints take frames
//! or not, and beside another program.

use std::time::Duration;

use datapath_tests::lab::{
    Datapath, Lab, Netns, PORTS, run, tcp_echo, tcp_exchange, udp_echo, udp_exchange, wait_for,
    wait_until,
};
use serde_json::Value;

fn lab() -> Lab {
    let lab = Lab::new();
    lab.add_ipv6();
    // A socket for both families.
    tcp_echo(&lab.container, "[::]:80");
    udp_echo(&lab.container, "[::]:53");
    lab
}

fn ethtool(netns: &Netns, feature: &str, value: &str) {
    run(netns
        .command("ethtool")
        .args(["-K", "eth0", feature, value]));
}

/// How the service says that it meets packets at the driver's level of eth0.
fn level(datapath: &Datapath) -> (String, String) {
    let status = datapath.cli(&["status", "--json"]).stdout;
    let status: Value = serde_json::from_slice(&status).expect("JSON");
    let level = &status["service"]["xdp"][0];
    assert_eq!(level["uplink"], "eth0", "{status}");
    let text = |key: &str| level[key].as_str().unwrap_or_default().to_owned();
    (text("mode"), text("because"))
}

/// Datagrams and a connection, each checked byte by byte, over both families.
fn exchange(lab: &Lab) {
    let payload: Vec<u8> = (0..1 << 18).map(|byte| (byte % 251) as u8).collect();
    for host in ["203.0.113.2", "[2001:db8::2]"] {
        for number in 0..20 {
            let text = format!("datagram {number} {}", "x".repeat(number * 60));
            let answer = udp_exchange(&lab.lan, &format!("{host}:5300"), &text);
            // The server says whom it sees before what it got.
            let answer = answer.expect("an answer");
            let (client, echo) = answer.split_once(' ').expect("two words");
            assert_eq!(echo, text, "{host}");
            assert!(client.contains(client_of(host)), "{host}: {client}");
        }
        let answer = tcp_exchange(&lab.lan, &format!("{host}:8080"), payload.clone());
        assert!(answer.expect("an answer") == payload, "{host}");
    }
}

/// Who asks at an address of the host.
fn client_of(host: &str) -> &'static str {
    if host.starts_with('[') {
        "2001:db8::9"
    } else {
        "203.0.113.9"
    }
}

#[test]
fn nothing_is_lost_or_changed_whatever_the_cards_do() {
    let lab = lab();
    for mode in ["native", "generic"] {
        let datapath = Datapath::start_with(&lab, &format!("xdp = {mode:?}"), PORTS);
        assert_eq!(level(&datapath).0, mode);
        for (gro, tx) in [("off", "on"), ("on", "on"), ("on", "off"), ("off", "off")] {
            ethtool(&lab.container, "gro", gro);
            ethtool(&lab.lan, "tx", tx);
            wait_until("the service to know of it", || {
                takes_frames(&datapath) == (gro == "on")
            });
            exchange(&lab);
        }
        drop(datapath);
        assert!(!shown(&lab).contains("xdp"), "{}", shown(&lab));
    }
}

/// Whether the service knows of a port that takes frames.
fn takes_frames(datapath: &Datapath) -> bool {
    let map = datapath.maps().join("FRAME_PORTS");
    let mut bpftool = std::process::Command::new("bpftool");
    let shown = run(bpftool.args(["-j", "map", "dump", "pinned"]).arg(map));
    String::from_utf8_lossy(&shown.stdout).contains("key")
}

fn shown(lab: &Lab) -> String {
    let shown = run(lab.host.command("ip").args(["link", "show", "eth0"]));
    String::from_utf8_lossy(&shown.stdout).into_owned()
}

/// Frames that the program redirected, as the driver counts them.
fn redirected(lab: &Lab) -> u32 {
    let shown = run(lab.host.command("ethtool").args(["-S", "eth0"]));
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    text.lines()
        .filter_map(|line| line.split_once("_xdp_redirect:"))
        .map(|(_, count)| count.trim().parse::<u32>().expect("a number"))
        .sum()
}

/// The same port takes frames or does not, as its container's GRO says: the service follows within moments.
#[test]
fn datagrams_pass_by_the_stack_while_the_endpoint_takes_frames() {
    let lab = lab();
    let _datapath = Datapath::start_with(&lab, "xdp = \"native\"", PORTS);
    // Without a card that sums for it, the checksum is finished when the frame comes.
    ethtool(&lab.lan, "tx", "off");
    for (gro, passes_by) in [("on", true), ("off", false), ("on", true)] {
        ethtool(&lab.container, "gro", gro);
        wait_until("packets to take their way", || {
            let before = redirected(&lab);
            // In the moment of the change, until the service knows of it, one may be lost.
            let answered = same_flow(&lab, 20);
            let redirected = redirected(&lab) - before;
            // The first of a flow is the stack's.
            answered == 20
                && if passes_by {
                    redirected >= 18
                } else {
                    redirected == 0
                }
        });
    }
}

/// So many requests of one socket, and how many of them were answered.
fn same_flow(lab: &Lab, count: u32) -> u32 {
    lab.lan.enter(move || {
        let socket = std::net::UdpSocket::bind("203.0.113.9:0").expect("a socket");
        socket.connect("203.0.113.2:5300").expect("an address");
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .expect("a timeout");
        let mut answered = 0;
        for number in 0..count {
            socket.send(&number.to_ne_bytes()).expect("a request");
            let mut answer = [0; 64];
            match socket.recv(&mut answer) {
                Ok(length) => assert!(answer[..length].ends_with(&number.to_ne_bytes())),
                Err(_) => break,
            }
            answered += 1;
        }
        answered
    })
}

#[test]
fn auto_is_off_on_veth_and_says_why() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, PORTS);
    let (mode, because) = level(&datapath);
    assert!(
        mode == "off" && because.contains("veth"),
        "{mode} {because}"
    );
    assert!(!shown(&lab).contains("xdp"), "{}", shown(&lab));
}

#[test]
fn another_program_keeps_its_place_and_the_rest_works() {
    let (lab, elsewhere) = (lab(), Lab::new());
    // One that passes everything on: of a service that knows nothing of this interface.
    let _other = Datapath::start_with(&elsewhere, "xdp = \"native\"", PORTS);
    let id = program(&elsewhere).expect("a program");
    let bpftool = |arguments: &[&str]| {
        run(lab.host.command("bpftool").arg("net").args(arguments));
    };
    bpftool(&["attach", "xdpdrv", "id", &id, "dev", "eth0"]);
    let mut datapath = Datapath::start_with(&lab, "xdp = \"native\"", PORTS);
    let (mode, because) = level(&datapath);
    assert!(
        mode == "off" && because.contains("another XDP program"),
        "{mode} {because}"
    );
    exchange(&lab);
    assert_eq!(program(&lab), Some(id), "it is still there");
    bpftool(&["detach", "xdpdrv", "dev", "eth0"]);
    datapath.kill();
    datapath.restart();
    assert_eq!(level(&datapath).0, "native");
    exchange(&lab);
}

#[test]
fn a_program_that_is_taken_off_is_put_on_again() {
    let lab = lab();
    let datapath = Datapath::start_with(&lab, "xdp = \"native\"", PORTS);
    // What ip(8) and bpftool(8) do to programs they cannot do to one behind a link.
    for words in [
        "ip link set dev eth0 xdpdrv off",
        "bpftool net detach xdpdrv dev eth0",
    ] {
        let (program, arguments) = words.split_once(' ').expect("two words");
        let mut command = lab.host.command(program);
        let output = command.args(arguments.split(' ')).output();
        assert!(!output.expect("it starts").status.success(), "{words}");
    }
    let pin = datapath
        .links("uplink_xdp_native-")
        .pop()
        .expect("the link");
    let detach = || {
        let mut bpftool = std::process::Command::new("bpftool");
        run(bpftool.args(["link", "detach", "pinned"]).arg(&pin));
    };
    let unpin = || std::fs::remove_file(&pin).expect("the pin");
    for take_off in [&detach as &dyn Fn(), &unpin] {
        datapath.frozen(|| {
            take_off();
            wait_until("it is off", || program(&lab).is_none());
        });
        let start = std::time::Instant::now();
        // Sooner than everything is looked at anew.
        wait_for(Duration::from_secs(8), "it is on again", || {
            program(&lab).is_some()
        });
        println!("put on again after {:?}", start.elapsed());
        exchange(&lab);
    }
    let said = "uplink_xdp was taken off eth0 by somebody else";
    let times = || datapath.log().matches(said).count();
    wait_until("it is said each time", || times() == 2);
}

/// The XDP program on the host's eth0.
fn program(lab: &Lab) -> Option<String> {
    let text = shown(lab);
    let id = text
        .split("prog/xdp id ")
        .nth(1)?
        .split_whitespace()
        .next()?;
    Some(id.to_owned())
}

/// The program is replaced in place: the interface is never without one, and its rings stay as they are.
#[test]
fn the_next_service_takes_over() {
    let lab = lab();
    let mut datapath = Datapath::start_with(&lab, "xdp = \"native\"", PORTS);
    let first = program(&lab).expect("a program");
    datapath.kill();
    assert_eq!(
        program(&lab),
        Some(first.clone()),
        "it stays without a service"
    );
    exchange(&lab);
    datapath.restart();
    assert_ne!(program(&lab).expect("a program"), first, "the next one's");
    exchange(&lab);
}
