//! How soon a published port answers after `docker run` has returned, and how soon it is closed after `docker stop`:
//! a few times, beside whatever else the machine does. What is promised is shown by the soak of the same name.

use std::time::Duration;

use datapath_tests::lab::{Datapath, DockerLab, timing::open_and_close};

/// How many containers are started and stopped.
const ROUNDS: usize = 15;
/// On a machine that does other things too; what is promised is 50 ms and 250 ms.
const MEDIAN: Duration = Duration::from_millis(500);
const WORST: Duration = Duration::from_secs(5);

#[test]
fn ports_open_and_close_with_their_containers() {
    let lab = DockerLab::new();
    let _datapath = Datapath::following(&lab, "");
    let times = open_and_close(&lab, ROUNDS);
    for (what, times) in ["opened", "closed"].into_iter().zip(&times) {
        eprintln!("{what}: {times}");
        assert!(
            times.percentile(50) < MEDIAN && times.worst() < WORST,
            "{what}: {times}"
        );
    }
}
