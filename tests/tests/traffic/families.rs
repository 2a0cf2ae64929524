//! What holds in both families: streams of every size, with and without segmentation offload, and datagrams
//! in fragments.

use datapath_tests::lab::{
    Datapath, Lab, Netns, PORTS, run, tcp_echo, tcp_exchange, udp_echo, udp_exchange,
};

/// The host, and somebody on its link, as each family writes them.
const ADDRESSES: [(&str, &str); 2] = [
    ("203.0.113.2", "203.0.113.9"),
    ("[2001:db8::2]", "[2001:db8::9]"),
];

/// A lab with both families, and the datapath in its host.
fn lab() -> (Lab, Datapath) {
    let lab = Lab::new();
    lab.add_ipv6();
    let datapath = Datapath::start(&lab, PORTS);
    // A socket on [::] serves IPv4 too.
    for (netns, tcp, udp) in [(&lab.container, 80, 53), (&lab.lan, 8000, 5353)] {
        tcp_echo(netns, &format!("[::]:{tcp}"));
        udp_echo(netns, &format!("[::]:{udp}"));
    }
    (lab, datapath)
}

fn stream(from: &Netns, to: &str, length: usize) {
    let payload: Vec<u8> = (0..length).map(|byte| (byte % 251) as u8).collect();
    let answer = tcp_exchange(from, to, payload.clone())
        .unwrap_or_else(|error| panic!("{length} bytes to {to}: {error}"));
    assert!(
        answer == payload,
        "{length} bytes to {to}: {}",
        answer.len()
    );
}

#[test]
fn streams_with_and_without_segmentation_offload() {
    let (lab, _datapath) = lab();
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
                .args(["gro", offload]));
        }
        for (host, lan) in ADDRESSES {
            for length in [1, 1_219, 1_461, 65_535, 1 << 20] {
                stream(&lab.lan, &format!("{host}:8080"), length);
                stream(&lab.container, &format!("{lan}:8000"), length);
            }
        }
    }
}

#[test]
fn datagrams_in_fragments() {
    let (lab, _datapath) = lab();
    for (host, lan) in ADDRESSES {
        for length in [1, 1_452, 1_473, 2_000, 9_000, 60_000] {
            let payload = "x".repeat(length);
            for (from, to, seen) in [
                (&lab.lan, format!("{host}:5300"), lan),
                (&lab.container, format!("{lan}:5353"), host),
            ] {
                let answer = udp_exchange(from, &to, &payload)
                    .unwrap_or_else(|error| panic!("{length} bytes to {to}: {error}"));
                let (peer, back) = answer.split_once(' ').unwrap();
                assert!(back == payload, "{length} bytes to {to}: {}", back.len());
                let seen = seen.trim_matches(['[', ']']);
                assert!(peer.contains(seen), "{to} saw {peer}");
            }
        }
    }
}

#[test]
fn echo_requests() {
    let (lab, _datapath) = lab();
    for (_, lan) in ADDRESSES {
        for size in ["0", "56", "1400", "4000"] {
            run(lab
                .container
                .command("ping")
                .args(["-c2", "-i0.05", "-W2", "-s", size])
                .arg(lan.trim_matches(['[', ']'])));
        }
    }
}
