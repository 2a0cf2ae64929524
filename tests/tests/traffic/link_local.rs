//! Clients that ask at the host's link-local address, from their own.

use datapath_tests::lab::{
    Datapath, Lab, PORTS, run, tcp_echo, tcp_exchange, udp_echo, udp_exchange,
};
use nix::net::if_::if_nametoindex;

/// Another port of the container's, which leads there by IPv4.
const ACROSS: &str = r#"
[[publish]]
listen = "[::]:8081"
to = "172.17.0.2:80"
"#;

#[test]
fn a_published_port_answers_there_too() {
    for keys in ["", "forwarding = \"kernel\""] {
        let lab = Lab::new();
        lab.add_ipv6();
        lab.add_addresses("eth0", &["fe80::2/64"]);
        let link = lab.lan.enter(|| if_nametoindex("eth0").unwrap());
        tcp_echo(&lab.container, "[::]:80");
        udp_echo(&lab.container, "[::]:53");
        let datapath = Datapath::start_with(&lab, keys, &format!("{PORTS}{ACROSS}"));
        let at = |port: u16| format!("[fe80::2%{link}]:{port}");

        let payload: Vec<u8> = (0..1 << 20).map(|byte| (byte % 251) as u8).collect();
        for port in [8080, 8081] {
            let answer = tcp_exchange(&lab.lan, &at(port), payload.clone());
            assert!(answer.expect("an answer") == payload, "{keys} {port}");
        }
        // What a link-local address sends stays on its link: the container sees the host.
        let answer = udp_exchange(&lab.lan, &at(5300), "hello").expect("an answer");
        assert!(answer.starts_with("[2001:db8::2]:"), "{answer}");
        assert!(answer.ends_with(" hello"), "{answer}");

        // It says that nobody listens, and who asked hears it.
        let publish = ["publish", "[::]:5400:54/udp", "--to", "fd00:17::2"];
        run(&mut datapath.command(&publish));
        let refused = udp_exchange(&lab.lan, &at(5400), "hello").expect_err("nobody is there");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

        // Beside somebody who asks from the same port at the address that the container sees.
        let other = udp_exchange(&lab.lan, "[2001:db8::2]:5300", "hello").expect("an answer");
        assert!(other.starts_with("[2001:db8::9]:"), "{other}");
    }
}
