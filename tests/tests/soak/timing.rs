//! A published port answers within 50 ms of `docker run` returning, and is closed within 50 ms of the stop: what that
//! means over many containers, on a machine that does nothing else, and on one that has no CPU left.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use datapath_tests::lab::{Datapath, DockerLab, timing::open_and_close};

/// How many containers are started and stopped.
const ROUNDS: usize = 200;
/// What half of them have to keep.
const MEDIAN: Duration = Duration::from_millis(50);
/// What all but one of a hundred have to keep.
const NEARLY_ALL: Duration = Duration::from_millis(250);

#[test]
fn timing_of_two_hundred_containers() {
    measure(MEDIAN, NEARLY_ALL);
}

#[test]
fn timing_of_two_hundred_containers_beside_busy_loops() {
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let done = Arc::new(AtomicBool::new(false));
    for _ in 0..cores {
        let done = done.clone();
        thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    measure(2 * MEDIAN, 4 * NEARLY_ALL);
    done.store(true, Ordering::Relaxed);
}

fn measure(median: Duration, nearly_all: Duration) {
    let lab = DockerLab::new();
    let _datapath = Datapath::following(&lab, "");
    let times = open_and_close(&lab, ROUNDS);
    for (what, times) in ["opened", "closed"].into_iter().zip(&times) {
        eprintln!("{what}: {times}");
        assert!(
            times.percentile(50) < median && times.percentile(99) < nearly_all,
            "{what}: {times}"
        );
    }
}
