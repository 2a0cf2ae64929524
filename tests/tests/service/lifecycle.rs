//! Killed, upgraded, doubled, tampered with, and with the network changing under it.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use datapath_common::family::V4;
use datapath_tests::lab::{
    Datapath, Lab,
    load::{self, Load, Plan},
    run,
};
use datapath_user::kernel::tables::Tables;

use crate::talk::{self, Talk};

const PORTS: &str = "[[publish]]\nlisten = \"0.0.0.0:8080\"\nto = \"172.17.0.2:80\"\n";
const PUBLISHED: &str = "203.0.113.2:8080";
/// The service looks after its own every 10 seconds, whether anything was heard or not.
const HEALED: Duration = Duration::from_secs(25);

fn healed(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + HEALED;
    while !holds() {
        assert!(Instant::now() < deadline, "not healed: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn reaches(lab: &Lab) -> bool {
    Talk::open(&lab.lan, PUBLISHED).is_ok()
}

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
fn a_foreign_map_in_our_place_is_refused() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, PORTS);
    datapath.kill();
    let maps = std::fs::read_dir(datapath.pins())
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name != "links"))
        .expect("the maps' directory");
    let pin = maps.join("HALF4");
    std::fs::remove_file(&pin).unwrap();
    run(Command::new("bpftool")
        .args(["map", "create"])
        .arg(&pin)
        .args([
            "type", "array", "key", "4", "value", "8", "entries", "1", "name", "stranger",
        ]));
    let output = datapath.cli(&["run"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("HALF4"), "{said}");
    assert!(said.contains("datapath detach"), "no remedy: {said}");
}

#[test]
fn tampered_maps_and_links_are_repaired() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    assert!(reaches(&lab));
    let tables = Tables::new(datapath.pins());
    let mut bindings = tables.bindings::<V4>().unwrap();
    let keys: Vec<_> = bindings.keys().map(Result::unwrap).collect();
    for key in &keys {
        bindings.remove(key).unwrap();
    }
    let mut uplinks = tables.uplinks::<V4>().unwrap();
    let indexes: Vec<_> = uplinks.keys().map(Result::unwrap).collect();
    for index in &indexes {
        uplinks.remove(index).unwrap();
    }
    for link in std::fs::read_dir(datapath.pins().join("links"))
        .unwrap()
        .flatten()
    {
        if link.file_name().to_string_lossy().starts_with("uplink_") {
            std::fs::remove_file(link.path()).unwrap();
        }
    }
    assert!(!reaches(&lab), "nothing was broken");
    healed("bindings, addresses and links", || reaches(&lab));
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
    lab.host.ip(&format!(
        "link add eth0 type veth peer name eth0 netns {}",
        lab.lan.name()
    ));
    lab.host.ip("addr add 203.0.113.2/24 dev eth0");
    lab.lan.ip("addr add 203.0.113.9/24 dev eth0");
    lab.host.ip("link set eth0 up");
    lab.lan.ip("link set eth0 up");
    healed("deleted and made anew", || reaches(&lab));
    assert!(datapath.cli(&["status"]).status.success());
}
