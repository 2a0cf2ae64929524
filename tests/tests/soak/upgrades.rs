//! Upgrades and the absence of the service, under load.

use std::{thread, time::Duration};

use datapath_tests::lab::{
    Datapath, Lab,
    load::{self, Load, Plan},
};

#[test]
fn a_hundred_upgrades_under_load() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    let load = Load::begin(&lab, Plan::UPGRADE);
    for _ in 0..100 {
        datapath.kill();
        datapath.restart();
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
