//! Ports that a process of the host listens on: not taken from it, and named.

use std::net::{TcpListener, UdpSocket};

use datapath_tests::lab::{Datapath, Lab, run, tcp_echo, tcp_exchange, wait_until};
use serde_json::Value;

const CONFIG: &str = r#"
[[publish]]
listen = "0.0.0.0:7000"
to = "172.17.0.2:80"
[[publish]]
listen = "0.0.0.0:7001"
to = "172.17.0.2:80"
"#;

fn status(datapath: &Datapath) -> String {
    let output = run(&mut datapath.command(&["status"]));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_port_that_another_waits_for_is_its_as_soon_as_it_is_withdrawn() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, CONFIG);
    let ports = || {
        let listed = datapath.cli(&["ports", "--json"]).stdout;
        let listed: Value = serde_json::from_slice(&listed).unwrap();
        let ports = listed["ports"].as_array().unwrap().clone();
        ports
            .iter()
            .map(|port| {
                (
                    port["port"].as_u64().unwrap(),
                    port["source"].clone(),
                    port["to_port"].as_u64().unwrap(),
                )
            })
            .collect::<Vec<_>>()
    };
    run(&mut datapath.command(&["publish", "7002:90", "--to", "172.17.0.2"]));
    datapath.edit("0.0.0.0:7001", "0.0.0.0:7002");
    datapath.signal("-HUP");
    wait_until("the file wants it too", || {
        status(&datapath).contains("0.0.0.0:7002/tcp: file wants it, but api has it")
    });
    let api = |port, to| (port, Value::from("api"), to);
    let file = |port| (port, Value::from("file"), 80);
    assert_eq!(ports(), [file(7000), api(7002, 90)]);
    run(&mut datapath.command(&["unpublish", "7002"]));
    assert_eq!(ports(), [file(7000), file(7002)]);
    let refused = datapath.cli(&["publish", "7002:90", "--to", "172.17.0.2"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("already published by file"), "{said}");
    // What is refused leaves nothing behind.
    run(&mut datapath.command(&["publish", "7001:90", "--to", "172.17.0.2"]));
    assert_eq!(ports(), [file(7000), api(7001, 90), file(7002)]);
}

#[test]
fn a_port_is_not_taken_from_a_process_in_silence() {
    let lab = Lab::new();
    tcp_echo(&lab.container, "172.17.0.2:80");
    let bind = |addr: &'static str| lab.host.enter(move || TcpListener::bind(addr).unwrap());
    let held = bind("0.0.0.0:7000");
    let _six = bind("[::]:8080");
    let _udp = lab
        .host
        .enter(|| UdpSocket::bind("127.0.0.1:5300").unwrap());
    let mut datapath = Datapath::start(&lab, CONFIG);
    let own = format!("(process {}), which listens on ", std::process::id());
    let answers = |port: u16| {
        let to = format!("203.0.113.2:{port}");
        tcp_exchange(&lab.lan, &to, b"x".to_vec()).is_ok_and(|answer| answer == b"x")
    };

    // The file's: the rest of it is published, and this one when it is free.
    let said = status(&datapath);
    assert!(
        said.contains("problem: 0.0.0.0:7000/tcp: a process of user 0, which listens on "),
        "{said}"
    );
    assert!(answers(7001));
    drop(held);
    lab.host.ip("addr add 203.0.113.77/24 dev eth0");
    wait_until("the port is free", || answers(7000));
    assert!(!status(&datapath).contains("7000"));

    // The command line's.
    for (port, addr) in [
        ("8080:80", "[::]:8080"),
        ("5300:53/udp", "127.0.0.1:5300"),
        ("203.0.113.2:8080:80", "[::]:8080"),
    ] {
        let output = datapath.cli(&["publish", port, "--to", "172.17.0.2"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{port}: {said}");
        assert!(said.contains(&format!("{own}{addr}")), "{port}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let elsewhere = datapath.cli(&["publish", "203.0.113.2:5300:53/udp", "--to", "172.17.0.2"]);
    assert!(elsewhere.status.success(), "another address is free");

    // One that comes later gets nothing, and is named; the next service does not close the port for it.
    let _late = bind("0.0.0.0:7001");
    lab.host.ip("addr del 203.0.113.77/24 dev eth0");
    let named =
        |said: &str| said.contains("0.0.0.0:7001/tcp: ") && said.contains("withdraw the port");
    wait_until("it is named", || named(&status(&datapath)));
    assert!(answers(7001));
    datapath.kill();
    datapath.restart();
    assert!(answers(7001));
    assert!(named(&status(&datapath)));
    let doctor = datapath.cli(&["doctor"]);
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains(&format!("{own}0.0.0.0:7001")), "{doctor}");
}
