//! Who reaches what: every kind of source against every kind of published port and endpoint, with real sockets, on
//! datapath and on Docker 20.10's own iptables and docker-proxy, side by side. `docs/reachability.md` is written here:
//!
//! ```sh
//! DATAPATH_WRITE_DOCS=1 cargo xtask test --only every_cell
//! ```

mod document;
mod probe;
mod promise;
mod targets;
mod topology;

use std::{env, fs, thread, time::Duration};

use probe::{Cell, probe};
use promise::promised;
use topology::{Engine, Source, Topology};

/// How long an answer may take at first: one packet each way, on a machine with much to do.
const FIRST: Duration = Duration::from_millis(600);
/// And before it counts as none for good.
const LAST: Duration = Duration::from_secs(3);

/// What was found on one of the two.
struct Found {
    topology: Topology,
    cells: Vec<Cell>,
}

impl Found {
    fn on(engine: Engine) -> Self {
        let topology = Topology::new(engine);
        let mut cells: Vec<Cell> = targets::all()
            .into_iter()
            .flat_map(|target| Source::ALL.map(|source| Cell::new(source, target)))
            .collect();
        probe(&topology, &mut cells, |_| true, FIRST);
        Self { topology, cells }
    }

    /// Asks those once more that answered nothing.
    fn again(&mut self, wanted: impl Fn(&Cell) -> bool) {
        probe(&self.topology, &mut self.cells, wanted, LAST);
    }
}

#[test]
fn every_cell_is_as_docker_promises_and_as_the_page_says() {
    let write = env::var_os("DATAPATH_WRITE_DOCS").is_some();
    // The reference is for the page: what Docker does is not ours to test.
    let reference = write.then(|| thread::spawn(|| Found::on(Engine::Own)));
    let mut ours = Found::on(Engine::Datapath);
    ours.again(|cell| promised(cell).is_open());
    let wrong: Vec<_> = ours
        .cells
        .iter()
        .filter_map(|cell| promised(cell).complaint(cell))
        .collect();
    assert!(
        wrong.is_empty(),
        "{}\n{}",
        wrong.join("\n"),
        ours.topology.ports()
    );

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reachability.md");
    if let Some(reference) = reference {
        let mut docker = reference.join().expect("the reference");
        docker.again(|_| true);
        fs::write(path, document::write(&ours.cells, &docker.cells)).expect("the page");
    }
    let page = fs::read_to_string(path).expect("the page");
    let (page, found) = (
        document::ours(&page),
        document::ours(&document::write(&ours.cells, &ours.cells)),
    );
    let stale: Vec<_> = found.lines().filter(|line| !page.contains(line)).collect();
    assert!(
        page == found,
        "docs/reachability.md is stale; what is found now:\n{}",
        stale.join("\n")
    );
}
