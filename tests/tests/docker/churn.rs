//! Containers that come and go leave nothing behind.

use datapath_tests::lab::{
    Datapath, DockerLab, PATIENCE,
    churn::{Held, churn},
    wait_for,
};

#[test]
fn containers_that_come_and_go_leave_nothing() {
    let lab = DockerLab::new();
    let datapath = Datapath::following(&lab, "");
    // Once for what is only ever made once.
    churn(&lab, &datapath, 1, 1);
    let before = Held::at_rest(&datapath);
    for _ in 0..2 {
        churn(&lab, &datapath, 5, 10);
    }
    let mut after = before.clone();
    wait_for(PATIENCE, "what was held before, and nothing else", || {
        after = Held::by(&datapath);
        after == before
    });
}
