//! A host without an engine: nothing waits for one.

use datapath_tests::lab::{Datapath, Lab, tcp_echo, tcp_exchange};

/// Publishes a port, withdraws it, and asks after each.
fn comes_and_goes(docker: &str) {
    let lab = Lab::new();
    let datapath = Datapath::beside(&lab, docker);
    tcp_echo(&lab.container, "0.0.0.0:80");
    let answers = || tcp_exchange(&lab.lan, "203.0.113.2:8080", b"x".to_vec()).is_ok();
    let publish = ["publish", "8080:80", "--to", "172.17.0.2"];
    assert!(datapath.cli(&publish).status.success());
    assert!(answers());
    assert!(datapath.cli(&["unpublish", "8080"]).status.success());
    assert!(!answers(), "a withdrawn port answers");
}

#[test]
fn ports_come_and_go_where_there_is_no_engine() {
    comes_and_goes("socket = \"/nowhere/docker.sock\"");
}

#[test]
fn ports_come_and_go_while_an_engine_is_waited_for() {
    comes_and_goes("enabled = true\nsocket = \"/nowhere/docker.sock\"");
}
