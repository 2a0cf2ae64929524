//! Where published ports answer, and where they do not.

use datapath_tests::lab::wait_until;

use super::{Check, Stage, names, who};

pub(super) const CHECKS: &[Check] = &[
    ("AccessPublishedPortFromHost", from_host),
    ("AccessPublishedPortFromRemoteHost", from_remote_host),
    ("AccessPublishedPortFromCtr", from_container),
    (
        "AccessPublishedPortFromAnotherNetwork",
        from_another_network,
    ),
    ("PortMappedHairpinTCP/UDP", hairpin),
    ("AccessPortPublishedOnLoopbackAddress", on_loopback),
    (
        "PortMappingOnDistinctLoopbackAddrs",
        on_distinct_loopback_addresses,
    ),
    ("MixAnyWithSpecificHostAddrs", any_with_specific_addresses),
    ("HostBindingIPv4", host_binding_option),
    ("PublishAllPorts", all_ports),
    ("PublishDynamicAndRanges", dynamic_and_ranges),
    ("Proxy4To6", ipv6_of_the_host_to_an_ipv4_container),
];

fn from_host(stage: &Stage) {
    stage.serve("web", &["-p", "8080:80"]);
    stage.serve("web6", &["--network", "six", "-p", "8086:80"]);
    let host = &stage.lab.host;
    for at in [
        "127.0.0.1",
        "127.0.0.9",
        "203.0.113.2",
        "203.0.113.3",
        "172.17.0.1",
        "172.20.0.1",
    ] {
        stage.opens(host, &format!("{at}:8080"), "web");
        stage.opens(host, &format!("{at}:8086"), "web6");
    }
    for at in ["[::1]", "[2001:db8::2]", "[fd00:22::1]"] {
        stage.opens(host, &format!("{at}:8086"), "web6");
    }
}

fn from_remote_host(stage: &Stage) {
    stage.serve("web", &["-p", "8080:80"]);
    stage.serve("web6", &["--network", "six", "-p", "8086:80"]);
    stage.lab.docker.run_udp("names", &["-p", "5300:53/udp"]);
    let lan = &stage.lab.lan;
    for at in ["203.0.113.2", "203.0.113.3"] {
        stage.opens(lan, &format!("{at}:8080"), "web");
        stage.opens(lan, &format!("{at}:8086"), "web6");
        wait_until("datagrams", || {
            names(lan, &format!("{at}:5300")).as_deref() == Some("names")
        });
    }
    stage.opens(lan, "[2001:db8::2]:8086", "web6");
}

fn from_container(stage: &Stage) {
    stage.serve("web", &["--network", "blue", "-p", "8080:80"]);
    stage.serve("neighbour", &["--network", "blue"]);
    for name in ["web", "neighbour"] {
        let from = stage.lab.docker.netns(name);
        for at in ["203.0.113.2:8080", "203.0.113.3:8080", "172.20.0.1:8080"] {
            stage.opens(&from, at, "web");
        }
    }
}

fn from_another_network(stage: &Stage) {
    stage.serve("web", &["--network", "blue", "-p", "8080:80"]);
    stage.serve("other", &["--network", "green"]);
    let other = stage.lab.docker.netns("other");
    // By the host's address, by the gateway's of its own network, and by the other's.
    for at in ["203.0.113.2:8080", "172.21.0.1:8080", "172.20.0.1:8080"] {
        stage.opens(&other, at, "web");
    }
    let direct = format!("{}:80", stage.lab.docker.address("web", "blue"));
    assert_eq!(who(&other, &direct), None, "one network reaches the other");
}

fn hairpin(stage: &Stage) {
    stage.serve("web", &["-p", "8080:80"]);
    stage.lab.docker.run_udp("names", &["-p", "5300:53/udp"]);
    for name in ["web", "names"] {
        let from = stage.lab.docker.netns(name);
        stage.opens(&from, "203.0.113.2:8080", "web");
        wait_until("datagrams", || {
            names(&from, "203.0.113.2:5300").as_deref() == Some("names")
        });
    }
}

fn on_loopback(stage: &Stage) {
    stage.serve("one", &["-p", "127.0.0.1:8080:80"]);
    stage.serve("two", &["-p", "127.0.0.2:8081:80"]);
    stage.opens(&stage.lab.host, "127.0.0.1:8080", "one");
    stage.opens(&stage.lab.host, "127.0.0.2:8081", "two");
    for at in ["203.0.113.2:8080", "203.0.113.2:8081", "127.0.0.2:8081"] {
        assert_eq!(who(&stage.lab.lan, at), None, "the network reaches {at}");
    }
    let container = stage.lab.docker.netns("one");
    assert_eq!(
        who(&container, "172.17.0.1:8081"),
        None,
        "a container reaches a loopback port"
    );
}

fn on_distinct_loopback_addresses(stage: &Stage) {
    stage.serve("one", &["-p", "127.0.0.1:8080:80"]);
    stage.serve("two", &["-p", "127.0.0.2:8080:80"]);
    stage.opens(&stage.lab.host, "127.0.0.1:8080", "one");
    stage.opens(&stage.lab.host, "127.0.0.2:8080", "two");
}

fn any_with_specific_addresses(stage: &Stage) {
    stage.serve("two", &["-p", "203.0.113.2:8080:80"]);
    stage.serve("three", &["-p", "203.0.113.3:8080:80"]);
    stage.serve(
        "mixed",
        &[
            "-p",
            "203.0.113.3:8090:80",
            "-p",
            "0.0.0.0:8091:80",
            "-p",
            "[::]:8092:80",
        ],
    );
    for from in [&stage.lab.lan, &stage.lab.host] {
        stage.opens(from, "203.0.113.2:8080", "two");
        stage.opens(from, "203.0.113.3:8080", "three");
        stage.opens(from, "203.0.113.3:8090", "mixed");
        stage.opens(from, "203.0.113.2:8091", "mixed");
        assert_eq!(who(from, "203.0.113.2:8090"), None);
    }
}

fn host_binding_option(stage: &Stage) {
    stage.serve("web", &["--network", "bound", "-p", "8080:80"]);
    stage.opens(&stage.lab.lan, "203.0.113.3:8080", "web");
    assert_eq!(
        who(&stage.lab.lan, "203.0.113.2:8080"),
        None,
        "it answers on an address that it is not bound to"
    );
}

fn all_ports(stage: &Stage) {
    stage.serve("web", &["-P"]);
    let port = stage.lab.docker.port("web", "80/tcp");
    stage.opens(&stage.lab.lan, &format!("203.0.113.2:{port}"), "web");
}

fn dynamic_and_ranges(stage: &Stage) {
    stage.serve("any", &["-p", "80"]);
    let port = stage.lab.docker.port("any", "80/tcp");
    stage.opens(&stage.lab.lan, &format!("203.0.113.2:{port}"), "any");
    stage.serve("range", &["-p", "7000-7009:75-84"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:7005", "range");
    assert_eq!(who(&stage.lab.lan, "203.0.113.2:7004"), None);
    // One of a range, which the engine chooses.
    stage.serve("first", &["-p", "7100-7101:80"]);
    stage.serve("second", &["-p", "7100-7101:80"]);
    for name in ["first", "second"] {
        let port = stage.lab.docker.port(name, "80/tcp");
        stage.opens(&stage.lab.lan, &format!("203.0.113.2:{port}"), name);
    }
}

fn ipv6_of_the_host_to_an_ipv4_container(stage: &Stage) {
    stage.serve("web", &["-p", "8080:80"]);
    stage.serve("four", &["-p", "0.0.0.0:8081:80"]);
    for at in ["[::1]:8080", "[2001:db8::2]:8080"] {
        stage.opens(&stage.lab.host, at, "web");
    }
    // Who asked for IPv4 gets IPv4.
    stage.opens(&stage.lab.host, "203.0.113.2:8081", "four");
    assert_eq!(who(&stage.lab.host, "[::1]:8081"), None);
}
