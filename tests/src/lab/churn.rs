//! Many containers with many ports, started and removed, and what is left of them.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use super::{Datapath, DockerLab, tcp_exchange, wait_for};

/// How long the engine may take to start or remove them all.
const PATIENCE: Duration = Duration::from_secs(300);
/// The host's first port.
const FIRST: u16 = 20_000;
/// Containers that are started at the same time.
const AT_A_TIME: usize = 4;
/// Maps whose content follows from what there is.
const MAPS: [&str; 8] = [
    "BINDINGS4",
    "BINDINGS6",
    "ENDPOINTS4",
    "ENDPOINTS6",
    "NETWORKS4",
    "NETWORKS6",
    "LOCALS4",
    "UPLINKS4",
];

/// What a datapath holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Entries, by map.
    pub entries: BTreeMap<String, usize>,
    /// Open descriptors of the service.
    pub descriptors: usize,
    /// Pins.
    pub pins: usize,
}

impl Held {
    /// What is held now.
    #[must_use]
    pub fn by(datapath: &Datapath) -> Self {
        let files = |path: std::path::PathBuf| fs::read_dir(path).map_or(0, Iterator::count);
        let maps = datapath.maps();
        let entries = MAPS
            .iter()
            .map(|name| ((*name).to_owned(), count(&maps.join(name))));
        Self {
            entries: entries.collect(),
            descriptors: files(format!("/proc/{}/fd", datapath.pid()).into()),
            pins: files(maps.clone()) + datapath.links("").len(),
        }
    }

    /// What is held once nothing changes any more: of a container that went the ports are withdrawn at once, and its place
    /// and its programs when the network has settled.
    #[must_use]
    pub fn at_rest(datapath: &Datapath) -> Self {
        let mut held = Self::by(datapath);
        wait_for(PATIENCE, "nothing to change any more", || {
            thread::sleep(Duration::from_secs(1));
            let before = std::mem::replace(&mut held, Self::by(datapath));
            held == before
        });
        held
    }
}

fn count(map: &std::path::Path) -> usize {
    let mut dump = std::process::Command::new("bpftool");
    let dump = dump.args(["-j", "map", "dump", "pinned"]).arg(map).output();
    let dump = dump.expect("bpftool");
    let entries: serde_json::Value = serde_json::from_slice(&dump.stdout)
        .unwrap_or_else(|_| panic!("{}: {dump:?}", map.display()));
    entries.as_array().map_or(0, Vec::len)
}

/// Starts that many containers with that many ports each, sees that every port is published and the first of each
/// container answers, and removes them all again.
pub fn churn(lab: &DockerLab, datapath: &Datapath, containers: usize, ports: u16) {
    let start = Instant::now();
    let names: Vec<_> = (0..containers)
        .map(|number| format!("churn{number}"))
        .collect();
    thread::scope(|scope| {
        for slice in names.chunks(containers.div_ceil(AT_A_TIME)) {
            let first = names
                .iter()
                .position(|name| Some(name) == slice.first())
                .unwrap_or(0);
            scope.spawn(move || {
                for (number, name) in slice.iter().enumerate() {
                    let from = FIRST + (first + number) as u16 * ports;
                    let map = format!("{from}-{}:80-{}", from + ports - 1, 79 + ports);
                    lab.docker.run(name, &["-p", &map], &[]);
                }
            });
        }
    });
    let started = start.elapsed();
    let all = containers * usize::from(ports);
    let published = || Held::by(datapath).entries["BINDINGS4"];
    wait_for(PATIENCE, "all ports", || published() == all);
    for number in 0..containers {
        let at = format!("203.0.113.2:{}", FIRST + number as u16 * ports);
        let page = || tcp_exchange(&lab.lan, &at, b"GET / HTTP/1.0\r\n\r\n".to_vec());
        wait_for(PATIENCE, &format!("a page at {at}"), || {
            page().is_ok_and(|page| String::from_utf8_lossy(&page).contains("It works!"))
        });
    }
    let served = start.elapsed();
    let arguments: Vec<_> = ["rm", "-f"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    lab.docker.ask(&arguments);
    wait_for(PATIENCE, "no port", || published() == 0);
    eprintln!(
        "{containers} containers, {all} ports: started in {started:?}, all served after {served:?}, gone after {:?}",
        start.elapsed()
    );
}
