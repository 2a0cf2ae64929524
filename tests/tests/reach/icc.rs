//! `icc = false`: endpoints of one bridge do not reach each other, but everything else they did.

use datapath_tests::lab::{Datapath, Lab, run, tcp_echo, tcp_exchange, wait_until};

const CONFIG: &str = r#"
[[network]]
bridge = "br1"
subnets = ["172.18.0.0/16"]
icc = false
[[publish]]
listen = "0.0.0.0:8080"
to = "172.18.0.2:80"
protocol = "tcp"
"#;

#[test]
fn neighbours_are_kept_apart_and_detaching_brings_them_together() {
    let lab = Lab::new();
    lab.add_bridge("br1", &["172.18.0.1/16"]);
    let first = lab.add_container("a", "br1", &["172.18.0.2/16"], &["172.18.0.1"]);
    let second = lab.add_container("b", "br1", &["172.18.0.3/16"], &["172.18.0.1"]);
    tcp_echo(&first, "0.0.0.0:80");
    tcp_echo(&lab.lan, "0.0.0.0:8000");
    let reaches = |to: &str| tcp_exchange(&second, to, b"x".to_vec()).is_ok();
    assert!(reaches("172.18.0.2:80"));

    let mut datapath = Datapath::start(&lab, CONFIG);
    assert!(!reaches("172.18.0.2:80"), "a neighbour is reached");
    assert!(reaches("203.0.113.9:8000"), "the way out");
    assert!(reaches("203.0.113.2:8080"), "the published port");
    assert!(tcp_exchange(&lab.lan, "203.0.113.2:8080", b"x".to_vec()).is_ok());

    // Nor where both send what is for the other to the host, which would route it.
    first.ip("route add 172.18.0.3 via 172.18.0.1");
    second.ip("route add 172.18.0.2 via 172.18.0.1");
    assert!(
        !reaches("172.18.0.2:80"),
        "a neighbour is reached by way of the host"
    );
    assert!(reaches("203.0.113.2:8080"), "the published port");
    first.ip("route del 172.18.0.3 via 172.18.0.1");
    second.ip("route del 172.18.0.2 via 172.18.0.1");

    let third = lab.add_container("d", "br1", &["172.18.0.4/16"], &["172.18.0.1"]);
    wait_until("the newcomer is kept apart", || {
        let shown = run(lab
            .host
            .command("bridge")
            .args(["-d", "link", "show", "dev", "vd"]));
        String::from_utf8_lossy(&shown.stdout).contains("isolated on")
    });
    assert!(tcp_exchange(&third, "172.18.0.2:80", b"x".to_vec()).is_err());

    datapath.kill();
    assert!(datapath.cli(&["detach"]).status.success());
    assert!(reaches("172.18.0.2:80"), "something was left behind");
}
