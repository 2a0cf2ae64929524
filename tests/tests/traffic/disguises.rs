//! Frames that hide what they carry from who looks at them, but not from the kernel.

use std::net::{SocketAddr, UdpSocket};

use datapath_tests::lab::{Datapath, Lab, Netns, PATIENCE, run, send_frame, wait_until};
use etherparse::PacketBuilder;

/// The host's Ethernet address, on all its interfaces, and that of whoever sends to it.
const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Two networks, of which the second has a container of its own.
fn two_networks(keys: &str) -> (Lab, Netns, Datapath) {
    let lab = Lab::new();
    lab.add_bridge("br1", &["172.18.0.1/16"]);
    let other = lab.add_container("d", "br1", &["172.18.0.2/16"], &["172.18.0.1"]);
    for interface in ["eth0", "docker0"] {
        lab.host
            .ip(&format!("link set {interface} address 02:00:00:00:00:01"));
    }
    let datapath = Datapath::start_with(
        &lab,
        keys,
        "[[network]]\nbridge = \"br1\"\nsubnets = [\"172.18.0.0/16\"]\n",
    );
    (lab, other, datapath)
}

/// A datagram to port 9, in a frame to this address.
fn frame(ethernet: [u8; 6], from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(SENDER, ethernet)
        .ipv4(from, to, 64)
        .udp(9, 9);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"hidden").unwrap();
    frame
}

/// With as many tags before what it carries.
fn tagged(mut frame: Vec<u8>, tags: &[[u8; 4]]) -> Vec<u8> {
    frame.splice(12..12, tags.concat());
    frame
}

fn listen(netns: &Netns, addr: &'static str) -> UdpSocket {
    let socket = netns.enter(move || UdpSocket::bind(addr).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// That nothing arrived before what is sent now, by the same way but in the open.
fn hears_only(socket: &UdpSocket, from: &Netns, to: &'static str, says: &str) {
    from.enter(move || {
        UdpSocket::bind("0.0.0.0:0")
            .unwrap()
            .send_to(b"open", to)
            .unwrap()
    });
    let (heard, sender) = hear(socket);
    assert_eq!(heard, "open", "{says}: from {sender}");
}

/// The next datagram, and who it is from.
fn hear(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 100];
    let (length, sender) = socket.recv_from(&mut buffer).unwrap();
    (
        String::from_utf8_lossy(&buffer[..length]).into_owned(),
        sender,
    )
}

/// A tag that names no VLAN behind another such: the kernel takes out both, behind the programs.
#[test]
fn tags_that_name_no_vlan_hide_nothing() {
    const NONE: [u8; 4] = [0x81, 0, 0, 0];
    const SERVICE: [u8; 4] = [0x88, 0xa8, 0x20, 0];
    let (lab, other, _datapath) = two_networks("");
    let neighbour = lab.add_container("n", "docker0", &["172.17.0.3/16"], &["172.17.0.1"]);
    let own = listen(&lab.container, "0.0.0.0:9");
    let apart = listen(&other, "0.0.0.0:9");
    let world = listen(&lab.lan, "0.0.0.0:9");
    for tags in [
        &[NONE; 2][..],
        &[NONE; 3],
        &[SERVICE, NONE],
        &[NONE, SERVICE],
    ] {
        let hidden = |from, to| tagged(frame(HOST, from, to), tags);
        let inward = hidden([203, 0, 113, 9], [172, 17, 0, 2]);
        send_frame(&lab.lan, "eth0", &inward).unwrap();
        hears_only(&own, &neighbour, "172.17.0.2:9", "by routing, from outside");
        let across = hidden([172, 17, 0, 2], [172, 18, 0, 2]);
        send_frame(&lab.container, "eth0", &across).unwrap();
        hears_only(&apart, &lab.host, "172.18.0.2:9", "from another network");
        let forged = hidden([198, 51, 100, 7], [203, 0, 113, 9]);
        send_frame(&lab.container, "eth0", &forged).unwrap();
        hears_only(
            &world,
            &lab.container,
            "203.0.113.9:9",
            "from another's address",
        );
    }
}

/// A frame to everybody whose packet is for one alone: the kernel delivers datagrams all the same.
#[test]
fn frames_to_everybody_reach_no_loopback_address() {
    let (lab, _other, _datapath) = two_networks("");
    for interface in ["eth0", "docker0"] {
        run(lab.host.command("sysctl").args([
            "-qw",
            &format!("net.ipv4.conf.{interface}.route_localnet=1"),
        ]));
    }
    let own = listen(&lab.host, "0.0.0.0:9");
    for ethernet in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        for (says, netns, from, to) in [
            ("from outside", &lab.lan, [203, 0, 113, 9], [127, 0, 0, 1]),
            (
                "from a container",
                &lab.container,
                [172, 17, 0, 2],
                [127, 0, 0, 1],
            ),
            (
                "as the host, outside",
                &lab.lan,
                [127, 0, 0, 1],
                [203, 0, 113, 2],
            ),
            (
                "as the host, inside",
                &lab.container,
                [127, 0, 0, 1],
                [172, 17, 0, 1],
            ),
        ] {
            send_frame(netns, "eth0", &frame(ethernet, from, to)).unwrap();
            hears_only(&own, &lab.host, "127.0.0.1:9", says);
        }
    }
}

/// Packets that open a flow pass by the stack, unless it is told to look where they come from.
#[test]
fn a_strict_source_check_is_asked() {
    let lab = Lab::new();
    let provider = lab.add_uplink();
    lab.host.ip("link set eth1 address 02:00:00:00:00:01");
    let datapath = Datapath::start_with(
        &lab,
        "uplinks = [\"eth0\", \"eth1\"]",
        "[[publish]]\nlisten = \"0.0.0.0:9\"\nto = \"172.17.0.2:9\"\nprotocol = \"udp\"\n",
    );
    let inside = listen(&lab.container, "0.0.0.0:9");
    let forged = frame(HOST, [203, 0, 113, 77], [192, 0, 2, 2]);
    let send = || send_frame(&provider, "eth0", &forged).unwrap();
    let check = |of: &str, value: u8| {
        let setting = format!("net.ipv4.conf.{of}.rp_filter={value}");
        run(lab.host.command("sysctl").args(["-qw", &setting]));
    };
    // The greater of the two counts.
    check("all", 0);
    for value in [0, 2] {
        check("eth1", value);
        send();
        assert_eq!(hear(&inside).0, "hidden", "{value} lets it pass");
    }
    check("eth1", 1);
    wait_until("the service to have seen it", || {
        let said = datapath.cli(&["status"]).stdout;
        String::from_utf8_lossy(&said).contains("rp_filter is strict")
    });
    for _ in 0..3 {
        let before = filtered(&lab.host);
        send();
        wait_until("the stack to drop it", || filtered(&lab.host) > before);
        hears_only(&inside, &lab.lan, "203.0.113.2:9", "from behind another");
    }
}

/// Packets that a host's source check dropped, ever.
fn filtered(host: &Netns) -> u64 {
    let counters = run(host
        .command("nstat")
        .args(["-asz", "TcpExtIPReversePathFilter"]));
    let text = String::from_utf8_lossy(&counters.stdout).into_owned();
    let mut words = text.split_whitespace();
    words.find(|word| word.ends_with("IPReversePathFilter"));
    words.next().and_then(|count| count.parse().ok()).unwrap()
}

/// What the programs write on a socket buffer a container that is master of its own network may write, too.
#[test]
fn a_mark_of_a_containers_own_opens_nothing() {
    let (lab, _other, _datapath) = two_networks("forwarding = \"kernel\"");
    let world = listen(&lab.lan, "0.0.0.0:9");
    let tc = |words: &str| {
        run(lab.container.command("tc").args(words.split_whitespace()));
    };
    tc("qdisc add dev eth0 clsact");
    tc("filter add dev eth0 egress protocol ip u32 match u32 0 0 flowid 1:6470");
    lab.container.enter(|| {
        UdpSocket::bind("0.0.0.0:9")
            .unwrap()
            .send_to(b"open", "203.0.113.9:9")
            .unwrap()
    });
    assert_eq!(
        hear(&world).1,
        "203.0.113.2:9".parse().unwrap(),
        "an address leaked"
    );
}
