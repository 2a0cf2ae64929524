//! Upgrades and the absence of the service, under load.

use std::{env, path::PathBuf, thread, time::Duration};

use datapath_tests::lab::{
    Datapath, Lab,
    load::{self, Load, Plan},
};

/// Where `DATAPATH_FORMER` names another build of the program, every second upgrade goes back to that one.
#[test]
fn a_hundred_upgrades_under_load() {
    let former = env::var_os("DATAPATH_FORMER").map(PathBuf::from);
    println!("from this build to {former:?} and back");
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    let load = Load::begin(&lab, Plan::UPGRADE);
    for number in 0..100 {
        datapath.kill();
        match &former {
            Some(build) if number % 2 == 0 => datapath.restart_as(build),
            _ => datapath.restart(),
        }
    }
    load.end().assert_unnoticed(0);
}

#[test]
fn ten_minutes_without_a_service() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    let load = Load::begin(&lab, Plan::UPGRADE);
    datapath.kill();
    thread::sleep(Duration::from_secs(600));
    load.end().assert_unnoticed(0);
    datapath.restart();
    Load::resume(&lab, Plan::UPGRADE).end().assert_unnoticed(0);
}
