//! The operator's half, on a real service: what it lists, flushes, collects, refuses, and survives.

#![expect(clippy::disallowed_methods, reason = "tests wait in real time")]

mod alarm;
mod allow;
mod api;
mod cli;
mod clsact;
mod collect;
mod doctor;
mod explain;
mod faults;
mod flows;
mod holders;
mod lifecycle;
mod metrics;
mod modes;
mod monitor;
mod network;
mod pins;
mod resources;
mod sandbox;
mod strangers;
mod systemd;
mod tampered;
mod top;

use std::{
    process::Output,
    thread,
    time::{Duration, Instant},
};

use datapath_tests::lab::{Lab, talk};

/// A port that most of these tests publish, as it is reached.
const PUBLISHED: &str = "203.0.113.2:8080";
/// The service looks after its own every 10 seconds, whether anything was heard or not.
const HEALED: Duration = Duration::from_secs(30);

/// Waits until the service has put something right.
fn healed(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < HEALED, "not healed: {what}");
        thread::sleep(Duration::from_millis(50));
    }
    println!("{what}: put right after {:?}", start.elapsed());
}

/// Whether the published port answers the LAN host.
fn reaches(lab: &Lab) -> bool {
    talk::Talk::open(&lab.lan, PUBLISHED).is_ok()
}

/// Ended with an error of its own: one line, with these words in it.
fn refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let errors: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("datapath: error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{said}");
    for word in words {
        assert!(errors[0].contains(word), "no {word}: {said}");
    }
}
