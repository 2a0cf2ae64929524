//! The programs against a NAT in plain Rust: random conversations of both families at every hook, and not one
//! packet that becomes anything else than the model says.
//!
//! Where the programs may choose (a source port), the model says among which, and goes on from what was chosen.
//! What comes out is compared byte by byte with a frame built from scratch, so every checksum in it is judged by
//! a library that is not ours.

mod cast;
mod compare;
mod model;
mod script;
mod state;
mod toggle;

use std::cell::{Cell, RefCell};

use proptest::{
    prelude::*,
    test_runner::{Config, TestError, TestRunner},
};

use self::{model::RANGE, script::Play};
use crate::host::Host;

/// How many packets there are in all, and in one run from clean tables at the most.
const PACKETS: usize = 1_000_000;
const RUN: usize = 1_000;
/// After how many runs the tables themselves are compared, too.
const AUDIT: usize = 25;

#[test]
fn a_million_packets_as_the_model_has_them() {
    // Garbage is collected all the while, and takes nothing that is in use.
    let tables = format!(
        "[nat]\nports = \"{}-{}\"\n[conntrack]\ngc_interval = \"1s\"\n",
        RANGE.start(),
        RANGE.end()
    );
    let host = Host::with("forwarding = \"kernel\"", &tables);
    let config = Config {
        // Runs of every length: a divergence is told by the shortest that shows it.
        cases: (PACKETS / (RUN / 2) * 108 / 100) as u32,
        failure_persistence: None,
        ..Config::default()
    };
    let acts = proptest::collection::vec(any::<u64>(), 1..RUN);
    host.lab.host.enter(|| {
        let play = RefCell::new(Play::new(&host));
        let runs = Cell::new(0_usize);
        let end = TestRunner::new(config).run(&acts, |acts| {
            let audited = runs.get().is_multiple_of(AUDIT);
            runs.set(runs.get() + 1);
            let mut play = play.borrow_mut();
            play.run(&acts, audited).map_err(TestCaseError::fail)
        });
        if let Err(TestError::Fail(divergence, _)) = &end {
            panic!("{divergence}");
        }
        end.unwrap();
        let play = play.borrow();
        println!("{}", play.told());
        assert!(play.packets() >= PACKETS);
        play.assert_everything_came_by();
    });
}
