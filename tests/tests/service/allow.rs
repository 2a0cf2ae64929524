//! Allow-lists on real connections: changed while they are open, kept without a service, and refused when they make
//! no sense.

use std::{
    net::{SocketAddr, TcpStream},
    process::Output,
    time::Duration,
};

use datapath_common::family::V4;
use datapath_tests::lab::{Datapath, Lab, Netns, tcp_echo, tcp_exchange, udp_echo, udp_exchange};
use datapath_user::kernel::tables::Tables;
use serde_json::Value;

use crate::talk::{self, Talk};

/// What `ports --json` says of the first port.
fn port(datapath: &Datapath, field: &str) -> Value {
    let output = datapath.cli(&["ports", "--json"]);
    let mut ports: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    ports["ports"][0][field].take()
}

/// Whether a connection comes about at once: no is soon said.
fn connects(from: &Netns, to: &str) -> bool {
    let to: SocketAddr = to.parse().expect("an address");
    from.enter(move || TcpStream::connect_timeout(&to, Duration::from_millis(500)).is_ok())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_change_ends_the_flows_of_others_and_of_nobody_else() {
    let lab = Lab::new();
    lab.add_ipv6();
    let far = lab.add_far();
    let neighbour = lab.add_container("n", "docker0", &["172.17.0.3/16"], &["172.17.0.1"]);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut datapath = Datapath::start(&lab, "");
    let ask = |netns: &Netns| Talk::open(netns, "203.0.113.2:8080");
    let asks = |netns: &Netns| connects(netns, "203.0.113.2:8080");
    let lists = |datapath: &Datapath, networks: &[&str]| {
        let arguments = [&["allow", "8080"], networks].concat();
        let output = datapath.cli(&arguments);
        assert!(output.status.success(), "{}", said(&output));
    };
    let allow = "203.0.113.0/24,198.51.100.7";
    let published = datapath.cli(&["publish", "8080:80", "--to", "172.17.0.2", "--allow", allow]);
    assert!(published.status.success(), "{}", said(&published));

    let (mut near, mut distant) = (ask(&lab.lan).unwrap(), ask(&far).unwrap());
    ask(&lab.host).expect("the host itself is not asked");
    assert!(!asks(&neighbour), "an endpoint that is not named");
    lists(&datapath, &["203.0.113.0/24", "172.17.0.3"]);
    assert!(distant.ask().is_err(), "its network is named no more");
    assert!(!asks(&far));
    near.ask().expect("its network is named still");
    ask(&neighbour).expect("it is named now");
    let told = datapath.cli(&["explain", "tcp", "198.51.100.7", "203.0.113.2:8080"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("not-allowed"), "{told}");
    assert!(port(&datapath, "refused").as_u64().unwrap() >= 2);

    // What is in force needs no service, and the next one finds it.
    datapath.kill();
    assert!(!asks(&far));
    near.ask().expect("nothing has changed");
    datapath.restart();
    let allow = ["172.17.0.3/32", "203.0.113.0/24"];
    assert_eq!(port(&datapath, "allow"), Value::from(allow.to_vec()));
    assert!(!asks(&far));
    near.ask().expect("nothing has changed");

    lists(&datapath, &["198.51.100.0/24"]);
    assert!(near.ask().is_err() && !asks(&lab.lan));
    lists(&datapath, &["everybody"]);
    ask(&lab.lan).unwrap();
    ask(&far).unwrap();
    assert_eq!(port(&datapath, "allow"), Value::Null);
}

#[test]
fn a_list_is_there_for_as_long_as_a_port_names_it() {
    let lab = Lab::new();
    lab.add_ipv6();
    let far = lab.add_far();
    talk::serve(&lab.container, "0.0.0.0:80");
    let datapath = Datapath::start(&lab, "");
    let (lists, near) = (Tables::new(datapath.pins()), "203.0.113.0/24");
    let lists = lists.allowed::<V4>().unwrap();
    let succeeds = |arguments: &[&str]| {
        let output = datapath.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        lists.iter().count()
    };
    for port in ["8080:80", "8081:80"] {
        let entries = succeeds(&["publish", port, "--to", "172.17.0.2", "--allow", near]);
        assert_eq!(entries, 1, "one list for both");
    }
    assert_eq!(succeeds(&["unpublish", "8080"]), 1);
    Talk::open(&lab.lan, "203.0.113.2:8081").unwrap();
    assert!(!connects(&far, "203.0.113.2:8081"));
    assert_eq!(
        succeeds(&["allow", "8081", "198.51.100.0/24", "192.0.2.0/24"]),
        2
    );
    Talk::open(&far, "203.0.113.2:8081").unwrap();
    assert!(!connects(&lab.lan, "203.0.113.2:8081"));
    assert_eq!(succeeds(&["unpublish", "8081"]), 0);
}

#[test]
fn both_families_and_both_protocols_from_the_file() {
    const CONFIG: &str = r#"
[[publish]]
listen = "0.0.0.0:7000-7001"
to = "172.17.0.2:80-81"
allow = ["203.0.113.9"]
[[publish]]
listen = "[::]:7000-7001"
to = "[fd00:17::2]:80-81"
allow = ["2001:db8:7::/64"]
[[publish]]
listen = "0.0.0.0:7000"
to = "172.17.0.2:53"
protocol = "udp"
allow = ["198.51.100.0/24", "2001:db8::/32"]
"#;
    let lab = Lab::new();
    lab.add_ipv6();
    let far = lab.add_far();
    tcp_echo(&lab.container, "[::]:80");
    tcp_echo(&lab.container, "[::]:81");
    udp_echo(&lab.container, "0.0.0.0:53");
    let _datapath = Datapath::start(&lab, CONFIG);
    let tcp = |from: &Netns, to: &str| tcp_exchange(from, to, b"x".to_vec()).is_ok();
    for port in [7000, 7001] {
        assert!(tcp(&lab.lan, &format!("203.0.113.2:{port}")));
        assert!(!connects(&far, &format!("203.0.113.2:{port}")));
        assert!(!connects(&lab.lan, &format!("[2001:db8::2]:{port}")));
        assert!(tcp(&far, &format!("[2001:db8::2]:{port}")));
    }
    assert!(udp_exchange(&far, "203.0.113.2:7000", "x").is_ok());
    assert!(udp_exchange(&lab.lan, "203.0.113.2:7000", "x").is_err());
}

/// Each names the field, the value and the remedy, and changes nothing.
#[test]
fn lists_that_make_no_sense() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "");
    let publish = |listen: &'static str, allow: &'static str| {
        vec!["publish", listen, "--to", "172.17.0.2", "--allow", allow]
    };
    assert!(
        datapath
            .cli(&publish("8080:80", "10.0.0.0/8"))
            .status
            .success()
    );
    for (arguments, parts) in [
        (
            publish("81:81", "203.0.113.0/24,nobody"),
            ["nobody: ", "ADDRESS/PREFIX"],
        ),
        (
            publish("81:81", "203.0.113.1/24"),
            ["203.0.113.1/24: ", "write \"203.0.113.0/24\""],
        ),
        (publish("81:81", "2001:db8::/32"), ["2001:db8::/32", "IPv4"]),
        (
            vec!["allow", "8080", "10.0.0.0/33"],
            ["10.0.0.0/33", "ADDRESS/PREFIX"],
        ),
        (vec!["allow", "8080", "fd00::/8"], ["fd00::/8", "IPv4"]),
        (
            vec!["allow", "9999", "10.0.0.0/8"],
            ["0.0.0.0:9999/tcp", "not published"],
        ),
    ] {
        let output = datapath.cli(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        for part in parts {
            assert!(
                said(&output).contains(part),
                "{arguments:?}: {}",
                said(&output)
            );
        }
        assert_eq!(said(&output).lines().count(), 1);
    }
    assert_eq!(port(&datapath, "allow"), Value::from(vec!["10.0.0.0/8"]));
    assert_eq!(port(&datapath, "port"), 8080);
    let named = datapath.cli(&["allow", "8080"]);
    assert_eq!(named.status.code(), Some(2), "a list has to be named");
}
