//! Programs of others on the interfaces that ours are attached to: whoever comes first, both have their say, and an upgrade
//! moves nobody.

use std::path::Path;

use datapath_tests::{
    lab::{Datapath, Lab, load, run, wait_until},
    strangers::{self, DROP, GO_ON},
};

use crate::{
    PUBLISHED, reaches,
    talk::{self, Talk},
};

fn doctor_says(datapath: &Datapath, words: &str) -> bool {
    let said = datapath.cli(&["doctor"]).stdout;
    String::from_utf8_lossy(&said).contains(words)
}

#[test]
fn before_ours_or_after_them_both_work() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut held = Talk::open(&lab.lan, PUBLISHED).unwrap();
    let ours = ["uplink_ingress", "uplink_egress"];
    assert_eq!(lab.host.classifiers("eth0"), ours);
    for (first, order) in [
        (true, ["", "uplink_ingress", "", "uplink_egress"]),
        (false, ["uplink_ingress", "", "uplink_egress", ""]),
    ] {
        let other = strangers::beside(&lab.host, "eth0", first, GO_ON);
        for turn in ["attached", "after an upgrade"] {
            assert_eq!(lab.host.classifiers("eth0"), order, "{turn}");
            held.ask()
                .unwrap_or_else(|error| panic!("first: {first}, {turn}: {error}"));
            assert!(reaches(&lab), "first: {first}, {turn}");
            assert!(doctor_says(&datapath, "eth0, tcx ingress"));
            datapath.kill();
            datapath.restart();
        }
        drop(other);
        wait_until("they are gone", || lab.host.classifiers("eth0") == ours);
    }
    // Whoever drops has dropped, and who goes on afterwards finds everything as it was.
    let other = strangers::beside(&lab.host, "eth0", true, DROP);
    assert!(!reaches(&lab));
    drop(other);
    held.ask().unwrap();
    assert!(reaches(&lab));
}

#[test]
fn a_filter_of_clsact_runs_beside_ours() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut held = Talk::open(&lab.lan, PUBLISHED).unwrap();
    let pin = format!("{}-stranger", datapath.pins().display());
    let pin = Path::new(&pin);
    let tc = |words: &str| run(lab.host.command("tc").args(words.split(' ')));
    tc("qdisc add dev eth0 clsact");
    for verdict in [GO_ON, DROP] {
        strangers::pin(pin, verdict);
        for hook in ["ingress", "egress"] {
            tc(&format!(
                "filter add dev eth0 {hook} bpf da object-pinned {}",
                pin.display()
            ));
        }
        std::fs::remove_file(pin).unwrap();
        assert!(doctor_says(&datapath, "eth0, clsact: filters of others"));
        // TCX comes first: what ours send on past the stack inward the filter does not see, what comes back it does.
        assert_eq!(reaches(&lab), verdict == GO_ON);
        if verdict == GO_ON {
            held.ask().unwrap();
        }
        for hook in ["ingress", "egress"] {
            tc(&format!("filter del dev eth0 {hook}"));
        }
    }
    tc("qdisc del dev eth0 clsact");
    held.ask().unwrap();
    assert!(reaches(&lab));
}
