//! A hundred containers with ten ports each, started and removed for minutes.

use std::time::{Duration, Instant};

use datapath_tests::lab::{
    Datapath, DockerLab, PATIENCE,
    churn::{Held, churn},
    wait_for,
};

/// How long it goes on.
const TIME: Duration = Duration::from_secs(300);

#[test]
fn a_hundred_containers_come_and_go_for_minutes() {
    let lab = DockerLab::new();
    let datapath = Datapath::following(&lab, "");
    churn(&lab, &datapath, 1, 1);
    let before = Held::at_rest(&datapath);
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < TIME {
        churn(&lab, &datapath, 100, 10);
        rounds += 1;
        wait_for(PATIENCE, "what was held before, and nothing else", || {
            Held::by(&datapath) == before
        });
    }
    eprintln!("{rounds} rounds; held as before: {before:?}");
}
