//! `datapath.allow`: a label that says whose packets a container's ports answer.

use datapath_tests::lab::{Datapath, DockerLab, Netns, run, udp_exchange, wait_until};

/// Whether the page comes. What does not answer at once does not.
fn gets_page(netns: &Netns, url: &str) -> bool {
    let mut curl = netns.command("curl");
    let output = curl.args(["-s", "--max-time", "0.3", url]).output();
    String::from_utf8_lossy(&output.expect("curl").stdout).contains("It works!")
}

#[test]
fn labels_say_who_may_ask() {
    let lab = DockerLab::new();
    // A second address is another source.
    lab.lan.ip("addr add 203.0.113.10/24 dev eth0");
    let datapath = Datapath::following(&lab, "");
    let from = |source: &str, url: &str| {
        let mut curl = lab.lan.command("curl");
        curl.args(["-s", "--max-time", "0.3", "--interface", source, url]);
        String::from_utf8_lossy(&curl.output().expect("curl").stdout).contains("It works!")
    };
    let docker = &lab.docker;
    let label = ["--label", "datapath.allow=203.0.113.10, 2001:db8::/32"];
    docker.run("one", &[&label[..], &["-p", "8080:80"]].concat(), &[]);
    let url = "http://203.0.113.2:8080/";
    wait_until("the port for the one that is named", || {
        from("203.0.113.10", url)
    });
    assert!(!from("203.0.113.9", url), "the other");
    assert!(gets_page(&lab.host, "http://127.0.0.1:8080/"), "the host");

    // A port's own list.
    let labels = ["--label", "datapath.allow=203.0.113.9"];
    let udp = ["--label", "datapath.allow.53/udp=203.0.113.200"];
    let ports = ["-p", "8081:80", "-p", "5300:53/udp"];
    docker.run_udp("two", &[&labels[..], &udp, &ports].concat());
    wait_until("the port's own", || {
        let output = datapath.cli(&["ports"]);
        String::from_utf8_lossy(&output.stdout).contains("203.0.113.200/32")
    });
    assert!(udp_exchange(&lab.lan, "203.0.113.2:5300", "who?").is_err());

    // What cannot be followed closes the ports, and is said.
    let label = ["--label", "datapath.allow=203.0.113.0/24,everyone"];
    docker.run("three", &[&label[..], &["-p", "8082:80"]].concat(), &[]);
    let status = || {
        let output = run(&mut datapath.command(&["status"]));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    wait_until("the problem", || status().contains("everyone"));
    let status = status();
    assert!(status.contains("label datapath.allow: "), "{status}");
    assert!(!from("203.0.113.9", "http://203.0.113.2:8082/"));
    let ports = datapath.cli(&["ports"]).stdout;
    assert!(!String::from_utf8_lossy(&ports).contains(":8082"));
}
