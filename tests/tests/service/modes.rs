//! What a network is, changed while its endpoints talk.

use std::{process::Command, thread};

use datapath_tests::lab::{Datapath, Lab, run, tcp_echo, tcp_exchange, wait_until};

use crate::talk::{self, Talk};

const PORT: &str = r#"
[[publish]]
listen = "0.0.0.0:8080"
to = "172.17.0.2:80"
"#;

const SUBNETS: &str = "subnets = [\"172.17.0.0/16\", \"fd00:17::/64\"]";

#[test]
fn a_network_that_becomes_internal_lets_go_of_its_flows() {
    let lab = Lab::new();
    talk::serve(&lab.container, "0.0.0.0:80");
    talk::serve(&lab.lan, "0.0.0.0:7");
    tcp_echo(&lab.lan, "0.0.0.0:8000");
    let mut datapath = Datapath::start(&lab, PORT);
    let internal = format!("{SUBNETS}\ninternal = true");
    let open = || {
        [
            Talk::open(&lab.lan, "203.0.113.2:8080").expect("the published port"),
            Talk::open(&lab.container, "203.0.113.9:7").expect("the way out"),
        ]
    };
    let none_left = |datapath: &Datapath| {
        wait_until("its flows are gone", || {
            let flows = run(&mut datapath.command(&["flows"])).stdout;
            !String::from_utf8_lossy(&flows).contains("ESTABLISHED")
        });
    };
    let are_over = |talks: [Talk; 2]| {
        // Each waits for an answer in vain.
        let asked = talks.map(|mut talk| thread::spawn(move || talk.ask()));
        for asked in asked {
            assert!(asked.join().expect("the asker").is_err());
        }
    };

    let talks = open();
    let mut own = Talk::open(&lab.host, "127.0.0.1:8080").expect("the host's own way");
    datapath.edit(SUBNETS, &internal);
    run(Command::new("kill").args(["-HUP", &datapath.pid().to_string()]));
    none_left(&datapath);
    are_over(talks);
    own.ask().expect("the host is nobody else");

    // And when that was changed while no service ran.
    datapath.edit(&internal, SUBNETS);
    run(Command::new("kill").args(["-HUP", &datapath.pid().to_string()]));
    wait_until("the way out is open again", || {
        tcp_exchange(&lab.container, "203.0.113.9:8000", b"x".to_vec()).is_ok()
    });
    let talks = open();
    datapath.kill();
    datapath.edit(SUBNETS, &internal);
    datapath.restart();
    none_left(&datapath);
    are_over(talks);
}
