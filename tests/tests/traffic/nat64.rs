//! IPv6 clients of the network and an endpoint that has IPv4 alone, with real sockets.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    process::Stdio,
    thread,
    time::Duration,
};

use datapath_tests::lab::{
    Datapath, Lab, Netns, PATIENCE, Passing, run, tcp_echo, tcp_exchange, udp_echo, udp_exchange,
    wait_until,
};
use nix::libc;

const PORTS: &str = r#"
[[publish]]
listen = "[::]:8080"
to = "172.17.0.2:80"
protocol = "tcp"
[[publish]]
listen = "[2001:db8::2]:5300"
to = "172.17.0.2:53"
protocol = "udp"
"#;

const WEB: &str = "[2001:db8::2]:8080";
const DNS: &str = "[2001:db8::2]:5300";

/// IPv6 outside only, and a host that does not forward it: Docker asks for nothing else.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.add_addresses("eth0", &["2001:db8::2/64"]);
    lab.lan.ip("addr add 2001:db8::9/64 dev eth0 nodad");
    lab
}

fn serve(lab: &Lab) {
    tcp_echo(&lab.container, "0.0.0.0:80");
    udp_echo(&lab.container, "0.0.0.0:53");
}

#[test]
fn clients_reach_the_endpoint() {
    let lab = lab();
    lab.add_addresses("eth0", &["2001:db8::3/64"]);
    let datapath = Datapath::start(&lab, PORTS);
    serve(&lab);
    for length in [1, 1_219, 1_441, 65_536, 1 << 20] {
        let payload: Vec<u8> = (0..length).map(|byte| (byte % 251) as u8).collect();
        let answer = tcp_exchange(&lab.lan, WEB, payload.clone()).unwrap();
        assert!(answer == payload, "{length} bytes: {}", answer.len());
    }
    for length in [1, 1_200, 1_430] {
        let payload = "x".repeat(length);
        let answer = udp_exchange(&lab.lan, DNS, &payload).unwrap();
        let (seen, back) = answer.split_once(' ').unwrap();
        assert!(seen.starts_with("172.17.0.1:") && back == payload, "{seen}");
    }
    let flows = datapath.cli(&["flows"]).stdout;
    let flows = String::from_utf8_lossy(&flows).into_owned();
    for expected in [
        "src=2001:db8::9 dst=2001:db8::2",
        "src=172.17.0.2 dst=172.17.0.1",
    ] {
        assert!(flows.contains(expected), "{flows}");
    }
    // One port is published on one address alone, the other on every one.
    assert!(udp_exchange(&lab.lan, "[2001:db8::3]:5300", "x").is_err());
    assert!(tcp_exchange(&lab.lan, "[2001:db8::3]:8080", vec![1]).unwrap() == [1]);
}

#[test]
fn curl_fetches_a_page() {
    let lab = lab();
    let _datapath = Datapath::start(&lab, PORTS);
    let pages = tempfile::tempdir().unwrap();
    let page: String = (0..200_000).map(|number| format!("{number}\n")).collect();
    std::fs::write(pages.path().join("page"), &page).unwrap();
    let mut server = lab.container.command("busybox");
    server
        .args(["httpd", "-f", "-p", "80", "-h"])
        .arg(pages.path());
    let _server = Passing::from(server.stdin(Stdio::null()).spawn().unwrap());
    let mut fetched = Vec::new();
    wait_until("the page", || {
        let curl = lab
            .lan
            .command("curl")
            .args(["-6", "-sf", "--max-time", "10"])
            .arg(format!("http://{WEB}/page"))
            .output()
            .unwrap();
        fetched = curl.stdout;
        curl.status.success()
    });
    assert!(fetched == page.as_bytes(), "{} bytes", fetched.len());
}

/// Bytes of each bulk transfer.
const BULK: usize = 100 << 20;

/// A server that takes everything until the client closes its half, and then sends as much.
fn bulk_server(netns: &Netns, addr: &'static str) {
    let listener = netns.enter(move || TcpListener::bind(addr).unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let sum = take(&mut stream);
            stream.write_all(&sum.to_be_bytes()).unwrap();
            give(&mut stream);
        }
    });
}

/// A block whose bytes depend on where in the stream it is.
fn block(number: usize) -> Vec<u8> {
    (0..1 << 16)
        .map(|byte: usize| (byte.wrapping_mul(31) ^ (byte >> 8) ^ number) as u8)
        .collect()
}

fn give(stream: &mut TcpStream) {
    for number in 0..BULK >> 16 {
        stream.write_all(&block(number)).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
}

/// Reads blocks to the stream's end: how many bytes were as they should be.
fn take(stream: &mut TcpStream) -> u64 {
    let mut buffer = vec![0; 1 << 16];
    for number in 0..BULK >> 16 {
        stream.read_exact(&mut buffer).unwrap();
        assert!(buffer == block(number), "block {number}");
    }
    (BULK >> 16 << 16) as u64
}

/// 100 MB each way, with trains of segments and with single ones whose checksums the two ends make and check.
#[test]
fn bulk_both_ways_with_and_without_offloads() {
    let lab = lab();
    let datapath = Datapath::start(&lab, PORTS);
    bulk_server(&lab.container, "0.0.0.0:80");
    for offload in ["on", "off"] {
        for (netns, interface) in [
            (&lab.host, "eth0"),
            (&lab.host, "vc"),
            (&lab.lan, "eth0"),
            (&lab.container, "eth0"),
        ] {
            run(netns
                .command("ethtool")
                .args(["-K", interface, "gso", offload, "tso", offload])
                .args(["gro", offload, "tx", offload, "rx", offload]));
        }
        lab.lan.enter(|| {
            let mut stream = TcpStream::connect(WEB).unwrap();
            stream.set_read_timeout(Some(PATIENCE * 3)).unwrap();
            give(&mut stream);
            let mut sum = [0; 8];
            stream.read_exact(&mut sum).unwrap();
            assert_eq!(u64::from_be_bytes(sum), BULK as u64);
            take(&mut stream);
        });
    }
    let stats = datapath.cli(&["stats"]).stdout;
    let stats = String::from_utf8_lossy(&stats);
    assert!(!stats.contains("nat64-too-big"), "{stats}");
}

/// A client whose own link takes more than the host's: segments are no greater than what fits.
#[test]
fn segments_fit_the_uplink() {
    let lab = lab();
    lab.lan.ip("link set eth0 mtu 9000");
    let datapath = Datapath::start(&lab, PORTS);
    tcp_echo(&lab.container, "0.0.0.0:80");
    let payload = vec![9; 1 << 20];
    assert!(tcp_exchange(&lab.lan, WEB, payload.clone()).unwrap() == payload);
    let stats = datapath.cli(&["stats"]).stdout;
    let stats = String::from_utf8_lossy(&stats);
    assert!(!stats.contains("nat64-too-big"), "{stats}");
}

#[test]
fn a_rule_of_the_host_closes_the_port_and_its_end_opens_it() {
    let lab = lab();
    let _datapath = Datapath::start(&lab, PORTS);
    serve(&lab);
    let reaches = || udp_exchange(&lab.lan, DNS, "x").is_ok();
    assert!(reaches());
    let nft = |arguments: &str| run(lab.host.command("nft").args(arguments.split(' ')));
    nft("add table ip filter");
    nft("add chain ip filter forward { type filter hook forward priority 0 ; }");
    nft("add rule ip filter forward ip daddr 172.17.0.2 drop");
    wait_until("the rule holds", || !reaches());
    nft("delete table ip filter");
    wait_until("it is gone", reaches);
}

#[test]
fn withdrawing_ends_the_flows_and_internal_networks_stay_closed() {
    let lab = lab();
    let datapath = Datapath::start(&lab, "");
    serve(&lab);
    let publish = ["publish", "[2001:db8::2]:9000:80", "--to", "172.17.0.2"];
    let published = datapath.cli(&publish);
    assert!(published.status.success(), "{published:?}");
    let stream = lab.lan.enter(|| {
        let mut stream = TcpStream::connect("[2001:db8::2]:9000").unwrap();
        stream.write_all(b"x").unwrap();
        stream
    });
    let count = || {
        let flows = datapath.cli(&["flows"]).stdout;
        String::from_utf8_lossy(&flows)
            .matches("2001:db8::9")
            .count()
    };
    assert!(count() > 0);
    assert!(
        datapath
            .cli(&["unpublish", "[2001:db8::2]:9000"])
            .status
            .success()
    );
    assert_eq!(count(), 0);
    let ended = lab.lan.enter(move || {
        let mut stream = stream;
        stream
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).is_err()
    });
    assert!(ended, "a withdrawn port answered");
}

#[test]
fn an_internal_network_is_reached_by_nobody() {
    let lab = lab();
    let internal = "
[[network]]
bridge = \"br1\"
subnets = [\"172.19.0.0/16\"]
internal = true
[[publish]]
listen = \"[::]:9000\"
to = \"172.19.0.2:80\"
protocol = \"tcp\"
";
    lab.add_bridge("br1", &["172.19.0.1/16"]);
    let inner = lab.add_container("c2", "br1", &["172.19.0.2/16"], &[]);
    tcp_echo(&inner, "0.0.0.0:80");
    let _datapath = Datapath::start(&lab, internal);
    assert!(tcp_exchange(&lab.lan, "[2001:db8::2]:9000", vec![1]).is_err());
}

/// Two thousand connections of two clients at once: each gets its own answer.
#[test]
fn many_connections() {
    let lab = lab();
    lab.lan.ip("addr add 2001:db8::a/64 dev eth0 nodad");
    let _datapath = Datapath::start(&lab, PORTS);
    tcp_echo(&lab.container, "0.0.0.0:80");
    let clients: Vec<_> = (0..4u32)
        .map(|client| {
            lab.lan.spawn(move || {
                for number in 0..500u32 {
                    let said = [client.to_be_bytes(), number.to_be_bytes()].concat();
                    let mut stream = TcpStream::connect(WEB).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.write_all(&said).unwrap();
                    stream.shutdown(std::net::Shutdown::Write).unwrap();
                    let mut heard = Vec::new();
                    stream.read_to_end(&mut heard).unwrap();
                    assert_eq!(heard, said);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

/// Datagrams that a program hands to the kernel as one train (`UDP_SEGMENT`), as QUIC's do, either way.
#[test]
fn trains_of_datagrams() {
    let each: libc::c_int = 1_000;
    let lab = lab();
    let _datapath = Datapath::start(&lab, PORTS);
    let train = |socket: &UdpSocket| {
        let socket = socket.as_raw_fd();
        let (size, length) = ((&raw const each).cast(), size_of::<libc::c_int>() as u32);
        // SAFETY: the kernel reads an integer.
        let set =
            unsafe { libc::setsockopt(socket, libc::SOL_UDP, libc::UDP_SEGMENT, size, length) };
        assert_eq!(set, 0);
    };
    let all: Vec<u8> = (0..9_500).map(|byte| (byte % 251) as u8).collect();
    let receive = |socket: &UdpSocket| {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut buffer, mut got) = ([0_u8; 2_000], Vec::<u8>::new());
        let mut from = None;
        while got.len() < 9_500 {
            let (length, peer) = socket.recv_from(&mut buffer).unwrap();
            assert!(length == 1_000 || length == 500, "{length}");
            got.extend_from_slice(&buffer[..length]);
            from = Some(peer);
        }
        (got, from.unwrap())
    };
    let server = lab
        .container
        .enter(|| UdpSocket::bind("0.0.0.0:53").unwrap());
    let client = lab.lan.enter(|| UdpSocket::bind("[::]:0").unwrap());
    train(&server);
    train(&client);
    client.send_to(&all, DNS).unwrap();
    let (got, seen) = receive(&server);
    assert!(got == all, "to the endpoint");
    server.send_to(&all, seen).unwrap();
    let (got, from) = receive(&client);
    assert!(got == all && from == DNS.parse().unwrap(), "to the client");
}

/// What an endpoint refuses, its client learns at once.
#[test]
fn a_closed_port_is_told() {
    let lab = lab();
    let _datapath = Datapath::start(&lab, PORTS);
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    assert!(udp_exchange(&lab.lan, DNS, "x").is_err_and(refused));
    assert!(tcp_exchange(&lab.lan, WEB, vec![1]).is_err_and(refused));
}

/// A container with IPv6 and one without, by the host's address.
#[test]
fn a_container_asks_too() {
    let lab = lab();
    lab.add_addresses("docker0", &["fd00:17::1/64"]);
    let asks = lab.add_container("c2", "docker0", &["fd00:17::3/64"], &["fd00:17::1"]);
    let _datapath = Datapath::start(&lab, PORTS);
    serve(&lab);
    let payload = vec![7; 1 << 20];
    assert!(tcp_exchange(&asks, WEB, payload.clone()).unwrap() == payload);
    let answer = udp_exchange(&asks, DNS, "x").unwrap();
    assert!(answer.starts_with("172.17.0.1:"), "{answer}");
}
