//! Pins that are missing, corrupt, or somebody else's: recognised, never used, and said with the remedy.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use datapath_tests::{
    lab::{Datapath, Lab, load, run, wait_until},
    strangers,
};

use crate::{
    PUBLISHED, healed, reaches,
    talk::{self, Talk},
};

/// A map of somebody else's, pinned there. `shape` is what `bpftool map create` takes.
fn foreign_map(pin: &Path, shape: &str) {
    run(Command::new("bpftool")
        .args(["map", "create"])
        .arg(pin)
        .args(shape.split(' ')));
}

/// The service does not start, and says why, in one line that has these words; it did not crash.
fn refused(datapath: &Datapath, words: &[&str]) {
    crate::refused(&datapath.cli(&["run"]), words);
}

/// Puts a pin aside, something else in its place, and everything back.
fn instead_of(pin: &Path, stranger: impl FnOnce(&Path), check: impl FnOnce()) {
    let aside = pin.with_file_name("aside");
    fs::rename(pin, &aside).unwrap();
    stranger(pin);
    check();
    assert!(fs::symlink_metadata(pin).is_ok(), "it was taken away");
    fs::remove_file(pin).unwrap();
    fs::rename(&aside, pin).unwrap();
}

fn link_of(datapath: &Datapath, program: &str) -> PathBuf {
    datapath.links(program).pop().expect("the link")
}

#[test]
fn what_is_in_the_place_of_a_map_is_refused() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut held = Talk::open(&lab.lan, PUBLISHED).unwrap();
    datapath.kill();
    let pin = datapath.maps().join("NETWORKS4");
    let is_refused = || refused(&datapath, &["NETWORKS4", "datapath detach"]);
    for shape in [
        // An entry of another size, another type, and somebody else's of the same shape.
        "type lpm_trie key 12 value 16 entries 1 flags 1 name NETWORKS4",
        "type lpm_trie key 8 value 8 entries 1 flags 1 name NETWORKS4",
        "type hash key 8 value 16 entries 1 name NETWORKS4",
        "type lpm_trie key 8 value 16 entries 1 flags 1 name stranger",
    ] {
        instead_of(&pin, |pin| foreign_map(pin, shape), is_refused);
    }
    instead_of(&pin, |pin| symlink("LOCALS4", pin).unwrap(), is_refused);
    instead_of(
        &pin,
        |pin| fs::create_dir(pin).unwrap(),
        || {
            is_refused();
            fs::remove_dir(&pin).unwrap();
            foreign_map(&pin, "type array key 4 value 4 entries 1 name stranger");
        },
    );
    let link = link_of(&datapath, "uplink_egress");
    let away = link.with_file_name("away");
    fs::rename(&link, &away).unwrap();
    instead_of(
        &pin,
        |pin| fs::rename(&away, pin).unwrap(),
        || {
            is_refused();
            // Back to where it belongs, with something in its place.
            fs::rename(&pin, &link).unwrap();
            foreign_map(&pin, "type array key 4 value 4 entries 1 name stranger");
        },
    );
    held.ask().expect("the datapath goes on meanwhile");
    datapath.restart();
    held.ask().unwrap();
    assert!(reaches(&lab));
}

#[test]
fn what_is_in_the_place_of_a_link_is_refused() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut held = Talk::open(&lab.lan, PUBLISHED).unwrap();
    datapath.kill();
    let ingress = link_of(&datapath, "uplink_ingress");
    let egress = link_of(&datapath, "uplink_egress");
    let is_refused = || refused(&datapath, &["uplink_ingress-", "remove it"]);
    instead_of(
        &ingress,
        |pin| foreign_map(pin, "type array key 4 value 4 entries 1 name stranger"),
        is_refused,
    );
    instead_of(&ingress, |pin| symlink(&egress, pin).unwrap(), is_refused);
    instead_of(
        &ingress,
        |pin| strangers::pin(pin, strangers::GO_ON),
        is_refused,
    );
    // A link to the same interface, with another program behind it.
    instead_of(
        &ingress,
        |pin| fs::rename(&egress, pin).unwrap(),
        || {
            is_refused();
            fs::rename(&ingress, &egress).unwrap();
            foreign_map(&ingress, "type array key 4 value 4 entries 1 name stranger");
        },
    );
    let cgroup = link_of(&datapath, "host_connect4");
    instead_of(
        &cgroup,
        |pin| foreign_map(pin, "type array key 4 value 4 entries 1 name stranger"),
        || {
            // The host's own processes are not led then; everything else works.
            datapath.restart();
            let status = datapath.cli(&["status"]);
            let said = String::from_utf8_lossy(&status.stdout).into_owned();
            assert!(said.contains("host_connect4-cgroup"), "{said}");
            datapath.kill();
        },
    );
    // A link to the same cgroup, with another program behind it.
    instead_of(
        &cgroup,
        |pin| {
            fs::rename(link_of(&datapath, "host_sendmsg4"), pin).unwrap();
        },
        || {
            refused(
                &datapath,
                &["host_connect4-", "program host_sendmsg4", "remove it"],
            );
        },
    );
    held.ask().expect("the datapath goes on meanwhile");
    datapath.restart();
    held.ask().unwrap();
    assert!(reaches(&lab));
}

#[test]
fn a_pin_that_is_missing_is_made_again() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let published = datapath.cli(&["publish", "9000:80", "--to", "172.17.0.2"]);
    assert!(published.status.success(), "{published:?}");
    let mut held = Talk::open(&lab.lan, PUBLISHED).unwrap();
    // Under the service.
    for name in ["FLOWS4", "BINDINGS4", "SETTINGS"] {
        fs::remove_file(datapath.maps().join(name)).unwrap();
    }
    healed("three maps", || datapath.maps().join("SETTINGS").exists());
    healed("it is said", || {
        datapath
            .log()
            .contains("map FLOWS4 was not pinned any more")
    });
    held.ask().unwrap();
    // Without a service: the programs still have them.
    datapath.kill();
    for name in ["FLOWS4", "BINDINGS4"] {
        fs::remove_file(datapath.maps().join(name)).unwrap();
    }
    held.ask().unwrap();
    datapath.restart();
    held.ask().expect("the flow is in the same map as before");
    assert!(Talk::open(&lab.lan, "203.0.113.2:9000").is_ok());
    // All of them, with the directory. The service may mend in the middle of it, and then it is not empty.
    wait_until("the directory of the maps is gone", || {
        fs::remove_dir_all(datapath.maps()).is_ok()
    });
    healed("all maps", || datapath.maps().join("GENERATIONS").exists());
    held.ask().unwrap();
    assert!(reaches(&lab));
}

#[test]
fn another_versions_maps_are_refused_and_detached_by_any() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    datapath.kill();
    for other in ["maps-v1", "maps-v4294967295"] {
        let dir = datapath.pins().join(other);
        fs::create_dir(&dir).unwrap();
        foreign_map(
            &dir.join("BINDINGS4"),
            "type hash key 8 value 24 entries 16 name BINDINGS4",
        );
        refused(&datapath, &[other, "datapath detach"]);
        assert!(dir.exists(), "it was taken away");
        let detached = datapath.cli(&["detach"]);
        assert!(detached.status.success(), "{detached:?}");
        assert!(!datapath.pins().exists());
        datapath.restart();
        datapath.kill();
    }
}

/// What docs/faults.md says to do.
#[test]
fn what_the_api_published_can_be_carried_over() {
    let page = include_str!("../../../docs/faults.md");
    let (_, filter) = page.split_once("jq '").unwrap();
    let (filter, _) = filter.split_once("' ports.json").unwrap();
    let lab = Lab::new();
    lab.add_ipv6();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    for arguments in [
        &["publish", "9000-9002:80-82", "--to", "172.17.0.2"][..],
        &["publish", "127.0.0.1:5353:53/udp", "--to", "172.17.0.2"],
        &[
            "publish",
            "9000:80",
            "--to",
            "fd00:17::2",
            "--allow",
            "2001:db8::/32",
        ],
    ] {
        let published = datapath.cli(arguments);
        assert!(published.status.success(), "{published:?}");
    }
    let ports = || {
        datapath_user::kernel::pinned::Pinned::open(datapath.pins())
            .unwrap()
            .ports()
    };
    let of = |ports: Vec<datapath_user::view::PortView>| -> Vec<_> {
        ports.into_iter().map(|port| port.publication).collect()
    };
    let before = of(ports().unwrap());
    assert_eq!(before.len(), 7);
    let saved = datapath.cli(&["ports", "--json"]).stdout;
    assert!(datapath.cli(&["detach"]).status.success());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ports.json"), saved).unwrap();
    datapath.restart();
    let socket = datapath.api_socket();
    run(Command::new("sh")
        .current_dir(dir.path())
        .args(["-ec", "jq \"$1\" ports.json | curl -sf --unix-socket \"$2\" http://datapath/v1/ports --json @-", "sh"])
        .arg(filter)
        .arg(&socket));
    let ports = || {
        datapath_user::kernel::pinned::Pinned::open(datapath.pins())
            .unwrap()
            .ports()
    };
    assert_eq!(of(ports().unwrap()), before);
}

#[test]
fn detaching_ends_the_service_and_leaves_no_lock() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    let locks = || {
        let ours = lab.name.clone();
        fs::read_dir("/run")
            .unwrap()
            .flatten()
            .filter(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                name.contains(&format!("-{ours}-"))
            })
            .count()
    };
    assert_eq!(locks(), 1);
    let detached = datapath.cli(&["detach"]);
    let said = String::from_utf8_lossy(&detached.stdout).into_owned();
    assert!(detached.status.success(), "{detached:?}");
    assert!(
        said.contains(&format!("process {}", datapath.pid())),
        "{said}"
    );
    assert!(said.contains("removed links/uplink_ingress-"), "{said}");
    assert!(datapath.ended().success());
    assert_eq!(locks(), 0);
    assert!(!datapath.pins().exists());
    // Once more: there is nothing, and that is no fault.
    let again = datapath.cli(&["detach"]);
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(
        again.status.success() && said.starts_with("nothing is pinned at "),
        "{again:?}"
    );
    // A service that was killed leaves its lock behind; the next detach does not.
    datapath.restart();
    datapath.kill();
    assert_eq!(locks(), 1);
    assert!(datapath.cli(&["detach"]).status.success());
    assert_eq!(locks(), 0);
}

#[test]
fn a_file_in_the_place_of_the_socket_is_left_alone() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, "");
    datapath.kill();
    fs::remove_file(datapath.api_socket()).unwrap();
    fs::write(datapath.api_socket(), "precious").unwrap();
    refused(&datapath, &["api_socket", "remove it"]);
    assert_eq!(
        fs::read_to_string(datapath.api_socket()).unwrap(),
        "precious"
    );
    fs::remove_file(datapath.api_socket()).unwrap();
    // Another program's socket that is in use.
    let other = std::os::unix::net::UnixListener::bind(datapath.api_socket()).unwrap();
    refused(&datapath, &["api_socket", "stop it"]);
    drop(other);
    datapath.restart();
}
