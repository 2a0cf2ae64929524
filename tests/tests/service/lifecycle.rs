//! Killed, upgraded, doubled, and with the network changing under it.

use datapath_tests::lab::{
    Datapath, Lab, join,
    load::{self, Load, Plan},
    run,
};
use datapath_user::kernel::tables::Tables;

use crate::{
    PUBLISHED, healed, reaches,
    talk::{self, Talk},
};

const PORTS: &str = "[[publish]]\nlisten = \"0.0.0.0:8080\"\nto = \"172.17.0.2:80\"\n";

#[test]
fn killed_and_upgraded_ten_times_under_load() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    let load = Load::begin(&lab, Plan::UPGRADE);
    for _ in 0..10 {
        datapath.kill();
        datapath.restart();
    }
    // On a machine that does much besides, a datagram may be lost at a full socket.
    load.end().assert_unnoticed(2);
}

#[test]
fn a_second_service_says_who_runs() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let second = datapath.cli(&["run"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(
        said.contains("another service runs on it (process "),
        "{said}"
    );
    assert!(said.contains(" datapath)"), "{said}");
    // The first one's socket is still the first one's.
    assert!(
        datapath
            .cli(&["publish", "9000:80", "--to", "172.17.0.2"])
            .status
            .success()
    );
    assert!(reaches(&lab));
}

#[test]
fn other_peoples_tools_take_nothing_down() {
    let lab = Lab::new();
    let _datapath = Datapath::start(&lab, PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut held = Talk::open(&lab.lan, PUBLISHED).unwrap();
    for words in [
        "tc qdisc add dev eth0 clsact",
        "tc qdisc del dev eth0 clsact",
        "tc qdisc replace dev eth0 root pfifo",
        "nft flush ruleset",
    ] {
        let (program, arguments) = words.split_once(' ').unwrap();
        run(lab.host.command(program).args(arguments.split(' ')));
        held.ask()
            .unwrap_or_else(|error| panic!("after {words}: {error}"));
        assert!(reaches(&lab), "after {words}");
    }
}

#[test]
fn an_uplink_goes_and_comes_back() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut held = Talk::open(&lab.lan, PUBLISHED).unwrap();
    lab.host.ip("link set eth0 down");
    lab.host.ip("link set eth0 up");
    healed("down and up", || reaches(&lab));
    held.ask().unwrap();

    lab.host.ip("addr add 203.0.113.3/24 dev eth0");
    healed("another address", || {
        Talk::open(&lab.lan, "203.0.113.3:8080").is_ok()
    });
    lab.host.ip("addr del 203.0.113.3/24 dev eth0");

    lab.host.ip("link set eth0 name eth7");
    lab.host.ip("link set eth7 name eth0");
    healed("renamed and named back", || reaches(&lab));

    lab.host.ip("link del eth0");
    join(&lab.host, &lab.lan);
    healed("deleted and made anew", || reaches(&lab));
    assert!(datapath.cli(&["status"]).status.success());
}

#[test]
fn the_first_look_at_a_packet_knows_of_every_port() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let tables = Tables::new(datapath.pins());
    let unpublished = |port| tables.unpublished().unwrap().get(&0, 0).unwrap().has(port);
    let published = "203.0.113.2:9000";
    assert!(!unpublished(8080) && unpublished(9000));
    assert!(Talk::open(&lab.lan, published).is_err());
    let output = datapath.cli(&["publish", "9000:80", "--to", "172.17.0.2"]);
    assert!(output.status.success(), "{output:?}");
    assert!(!unpublished(9000));
    Talk::open(&lab.lan, published).expect("the port is open");
    let output = datapath.cli(&["unpublish", "9000"]);
    assert!(output.status.success(), "{output:?}");
    assert!(Talk::open(&lab.lan, published).is_err());
    healed("what is withdrawn", || unpublished(9000));
    assert!(!unpublished(8080));
}
