//! Maps, settings and links that somebody else changes under the service: put right, and said in its log.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use datapath_common::{
    family::V4,
    settings::{Settings, slots},
    unpublished::Unpublished,
};
use datapath_tests::lab::{Datapath, Lab, load, run, wait_until};
use datapath_user::kernel::tables::Tables;

use crate::{
    PUBLISHED, healed, reaches,
    talk::{self, Talk},
};

fn lab() -> (Lab, Datapath) {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    assert!(reaches(&lab));
    (lab, datapath)
}

fn says(datapath: &Datapath, words: &str) {
    healed(words, || datapath.log().contains(words));
}

#[test]
fn bindings_networks_and_addresses_are_put_right() {
    let (lab, datapath) = lab();
    let tables = Tables::new(datapath.pins());
    // What Docker's and the network's changes would do is not to be mistaken for it.
    assert!(
        !datapath.log().contains("somebody else"),
        "{}",
        datapath.log()
    );
    let (_, mut bindings) = tables.bindings::<V4>().unwrap();
    let all: Vec<_> = bindings.iter().map(Result::unwrap).collect();
    for (key, _) in &all {
        bindings.remove(key).unwrap();
    }
    // A port that nobody published.
    let (mut key, binding) = all[0];
    key.port = 9999;
    bindings.insert(key, binding, 0).unwrap();
    // No port at all.
    let mut ports = tables.unpublished().unwrap();
    let before = ports.get(&0, 0).unwrap();
    ports.set(0, Unpublished::all_but([]), 0).unwrap();
    let (_, mut uplinks) = tables.uplinks::<V4>().unwrap();
    let indexes: Vec<_> = uplinks.keys().map(Result::unwrap).collect();
    for index in &indexes {
        uplinks.remove(index).unwrap();
    }
    let mut networks = tables.networks::<V4>().unwrap();
    let nets: Vec<_> = networks.keys().map(Result::unwrap).collect();
    for net in &nets {
        networks.remove(net).unwrap();
    }
    healed("bindings, addresses and networks", || {
        reaches(&lab)
            && uplinks.keys().count() == indexes.len()
            && networks.keys().count() == nets.len()
            && bindings.get(&key, 0).is_err()
            && ports.get(&0, 0).unwrap() == before
    });
    says(&datapath, "somebody else changed the maps");
}

#[test]
fn settings_are_put_right() {
    let (lab, datapath) = lab();
    let tables = Tables::new(datapath.pins());
    let mut map = tables.settings().unwrap();
    let before = map.get(&0, 0).unwrap();
    map.set(0, Settings::DEFAULT, 0).unwrap();
    healed("the settings", || map.get(&0, 0).unwrap() == before);
    says(&datapath, "somebody else changed the settings");
    assert!(reaches(&lab));
}

#[test]
fn generations_are_put_right_and_flows_come_back() {
    let (lab, datapath) = lab();
    let mut held = Talk::open(&lab.lan, PUBLISHED).unwrap();
    let tables = Tables::new(datapath.pins());
    let generations = tables.generations().unwrap();
    let mut all = tables.read_generations().unwrap();
    let before = all.clone();
    let used: Vec<u32> = (slots::BINDINGS..slots::NETWORKS).collect();
    all.iter_mut().for_each(|generation| *generation += 7);
    let raised: Vec<u32> = used.iter().map(|slot| all[*slot as usize]).collect();
    generations.put(&used, &raised).unwrap();
    assert_ne!(tables.read_generations().unwrap(), before);
    says(&datapath, "generations; they are put right");
    let (first, last) = (slots::BINDINGS as usize, slots::NETWORKS as usize);
    assert_eq!(
        tables.read_generations().unwrap()[first..last],
        before[first..last]
    );
    held.ask().expect("the flow lives again");
    assert!(reaches(&lab));
}

#[test]
fn what_others_may_open_is_made_private_again() {
    let (lab, datapath) = lab();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let (map, socket) = (datapath.maps().join("BINDINGS4"), datapath.api_socket());
    let dirs = [datapath.pins().to_owned(), datapath.maps()];
    assert_eq!((mode(&map), mode(&socket)), (0o600, 0o660));
    for path in [&map, &socket, &dirs[0], &dirs[1]] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    healed("the modes", || {
        mode(&map) == 0o600 && mode(&socket) == 0o660 && dirs.iter().all(|dir| mode(dir) == 0o700)
    });
    says(&datapath, "others could open map BINDINGS4");
    assert!(reaches(&lab));
}

/// How many programs the service said to have been taken off the root cgroup. It may have been held still between two
/// of them, and say it twice.
fn off_cgroup(datapath: &Datapath) -> u32 {
    const SAID: &str = "somebody else took ";
    let log = datapath.log();
    let counts = log.lines().filter_map(|line| {
        let (_, said) = line.split_once(SAID)?;
        let (count, rest) = said.split_once(' ')?;
        rest.starts_with("programs off the root cgroup")
            .then(|| count.parse::<u32>().ok())?
    });
    counts.sum()
}

#[test]
fn links_that_were_taken_off_are_put_on_again() {
    let (lab, datapath) = lab();
    let attached = || lab.host.classifiers("eth0");
    assert_eq!(attached(), ["uplink_ingress", "uplink_egress"]);
    let is_off = || wait_until("they are off", || attached().is_empty());
    let each = |programs: [&str; 2], work: &dyn Fn(&Path)| {
        for pin in programs.iter().flat_map(|program| datapath.links(program)) {
            work(&pin);
        }
    };
    // The pins go, and the links with them.
    datapath.frozen(|| {
        each(["uplink_", "host_"], &|pin| fs::remove_file(pin).unwrap());
        is_off();
    });
    healed("pins of links", || attached().len() == 2);
    assert!(reaches(&lab));
    says(
        &datapath,
        "uplink_ingress was taken off eth0 by somebody else",
    );
    healed("programs on the root cgroup", || off_cgroup(&datapath) == 8);
    // The links are forced off, and the pins stay.
    datapath.frozen(|| {
        each(["uplink_", "host_connect4"], &|pin| {
            run(Command::new("bpftool")
                .args(["link", "detach", "pinned"])
                .arg(pin));
        });
        is_off();
    });
    healed("dead links", || attached().len() == 2);
    assert!(reaches(&lab));
    healed("a dead one there", || off_cgroup(&datapath) == 9);
}
