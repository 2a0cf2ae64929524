//! Who reaches whom without a published port.

use datapath_tests::lab::Netns;

use super::{Check, Stage, who};

pub(super) const CHECKS: &[Check] = &[
    ("DirectRoutingOpenPorts", direct_routing),
    ("DirectRemoteAccessOnExposedPort", exposed_only),
    ("InterNetworkDirectRouting", between_networks),
    ("InternalNwConnectivity", internal),
    ("InternalNwPublishedPort", internal_and_published),
    ("ContainersOnOneNetwork", one_network),
];

fn pings(from: &Netns, at: &str) -> bool {
    let mut ping = from.command("ping");
    ping.args(["-c1", "-W1", at])
        .output()
        .expect("ping")
        .status
        .success()
}

fn at(stage: &Stage, name: &str, network: &str) -> String {
    format!("{}:80", stage.lab.docker.address(name, network))
}

fn direct_routing(stage: &Stage) {
    stage.serve("web", &["--network", "blue", "-p", "8080:80"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
    let direct = at(stage, "web", "blue");
    stage.opens(&stage.lab.host, &direct, "web");
    assert_eq!(
        who(&stage.lab.lan, &direct),
        None,
        "a container is reached past its published port"
    );
}

fn exposed_only(stage: &Stage) {
    stage.serve("web", &["--expose", "80"]);
    let direct = at(stage, "web", "bridge");
    stage.opens(&stage.lab.host, &direct, "web");
    assert_eq!(
        who(&stage.lab.lan, &direct),
        None,
        "an exposed port is reached from outside"
    );
    let address = stage.lab.docker.address("web", "bridge").to_string();
    assert!(
        !pings(&stage.lab.lan, &address),
        "a container is pinged from outside"
    );
}

fn between_networks(stage: &Stage) {
    stage.serve("web", &["--network", "blue", "-p", "8080:80"]);
    stage.serve("green", &["--network", "green"]);
    stage.serve("default", &[]);
    let direct = at(stage, "web", "blue");
    stage.opens(&stage.lab.host, &direct, "web");
    for name in ["green", "default"] {
        let from = stage.lab.docker.netns(name);
        assert_eq!(who(&from, &direct), None, "{name} reaches another network");
        let address = stage.lab.docker.address("web", "blue").to_string();
        assert!(!pings(&from, &address), "{name} pings another network");
    }
}

fn internal(stage: &Stage) {
    stage.serve("one", &["--network", "inside"]);
    stage.serve("two", &["--network", "inside"]);
    stage.serve("out", &["--network", "blue", "-p", "8080:80"]);
    let docker = &stage.lab.docker;
    let (one, two) = (docker.netns("one"), at(stage, "two", "inside"));
    stage.opens(&one, &two, "two");
    stage.opens(&stage.lab.host, &two, "two");
    assert!(
        !pings(&one, "203.0.113.9"),
        "an internal network reaches outside"
    );
    for from in [&stage.lab.lan, &docker.netns("out")] {
        assert_eq!(who(from, &two), None, "an internal network is reached");
    }
}

fn internal_and_published(stage: &Stage) {
    stage.serve("web", &["--network", "inside", "-p", "8080:80"]);
    stage.opens(&stage.lab.host, &at(stage, "web", "inside"), "web");
    assert_eq!(
        who(&stage.lab.lan, "203.0.113.2:8080"),
        None,
        "an internal network is reached by a port"
    );
}

fn one_network(stage: &Stage) {
    stage.serve("one", &["--network", "blue"]);
    stage.serve("two", &["--network", "blue"]);
    stage.opens(
        &stage.lab.docker.netns("one"),
        &at(stage, "two", "blue"),
        "two",
    );
    assert!(
        pings(&stage.lab.docker.netns("one"), "203.0.113.9"),
        "no way out"
    );
}
