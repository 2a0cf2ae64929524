//! What runs out is said in the service's log, in words, and not once for each packet.

use std::net::UdpSocket;

use datapath_tests::lab::{Datapath, Lab, wait_until};

#[test]
fn source_ports_that_run_out_are_said_once_a_second() {
    let lab = Lab::new();
    let more: Vec<_> = (3..6)
        .map(|number| {
            let address = format!("172.17.0.{number}/16");
            lab.add_container(
                &format!("n{number}"),
                "docker0",
                &[&address],
                &["172.17.0.1"],
            )
        })
        .collect();
    let datapath = Datapath::start(&lab, "[nat]\nports = \"40000-40000\"\n");
    // The first keeps the port, the second takes the only other one, and nothing is left for the rest.
    for container in [&lab.container].into_iter().chain(&more) {
        container.enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:7777").unwrap();
            for _ in 0..50 {
                socket.send_to(b"x", "203.0.113.9:9").unwrap();
            }
        });
    }
    wait_until("the log", || datapath.log().contains("ports-exhausted"));
    let log = datapath.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("ports-exhausted"))
        .collect();
    assert!(
        lines.iter().all(|line| line.contains("on eth0")),
        "{lines:?}"
    );
    assert!(
        lines.len() <= 6,
        "{} lines for a hundred packets",
        lines.len()
    );
}
