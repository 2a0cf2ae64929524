//! Garbage collection: what is over goes, what lives stays, and nobody waits for it.

use std::time::{Duration, Instant};

use datapath_common::{
    family::{Addr4, V4},
    fragment::{FragmentKey, FragmentNote},
    mapping::{Mapping, MappingKey},
    proto,
    tuple::Direction,
};
use datapath_tests::lab::{Datapath, Lab, run, udp_echo, udp_exchange, wait_until};
use datapath_user::kernel::{life::Tier, tables::Tables};

use crate::{
    flows::{MILLION, fill},
    talk::{self, Talk},
};

const CONFIG: &str = r#"
[[publish]]
listen = "0.0.0.0:8080"
to = "172.17.0.2:80"
[conntrack]
gc_interval = "1s"
udp = "2s"
udp_stream = "2s"
icmp = "2s"
"#;

fn entries(tables: &Tables, tier: Tier) -> u64 {
    tables.batched::<V4>(tier).unwrap().count().unwrap()
}

#[test]
fn expired_entries_go_and_living_ones_stay() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, CONFIG);
    talk::serve(&lab.container, "0.0.0.0:80");
    udp_echo(&lab.lan, "0.0.0.0:5353");
    let mut talk = Talk::open(&lab.lan, "203.0.113.2:8080").unwrap();
    udp_exchange(&lab.container, "203.0.113.9:5353", "x").unwrap();
    let ping = ["-c1", "-W2", "203.0.113.9"];
    run(lab.container.command("ping").args(ping));
    // Unanswered: half-open.
    drop(udp_exchange(&lab.container, "203.0.113.9:5354", "x"));
    let tables = Tables::new(datapath.pins());
    assert!(
        entries(&tables, Tier::Established) > 2,
        "nothing to collect"
    );

    let address = Addr4([172, 17, 0, 2]);
    let key = |port| MappingKey::<V4>::new(address, port, proto::UDP, Direction::FromEndpoint);
    let lasting = Mapping {
        deadline: u64::MAX,
        ..Mapping::NONE
    };
    let (mappings, mut table) = tables.mappings::<V4>().unwrap();
    table.insert(key(1), Mapping::NONE, 0).unwrap();
    table.insert(key(2), lasting, 0).unwrap();
    let (fragments, mut notes) = tables.fragments::<V4>().unwrap();
    let note = FragmentKey::new(address, address, 1, proto::UDP, Direction::ToEndpoint);
    notes.insert(note, FragmentNote::NONE, 0).unwrap();

    wait_until("only the connection's two entries are left", || {
        entries(&tables, Tier::Established) == 2 && entries(&tables, Tier::Half) == 0
    });
    wait_until("the expired mapping is gone", || {
        table.get(&key(1), 0).is_err()
    });
    assert!(table.get(&key(2), 0).is_ok(), "a mapping in use was taken");
    assert!(mappings.count().unwrap() > 0);
    wait_until("the note is gone", || fragments.count().unwrap() == 0);
    talk.ask().unwrap();
}

#[test]
fn a_million_expired_entries_hold_up_nobody() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, &CONFIG.replace("udp =", "max_flows = 1048576\nudp ="));
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut talk = Talk::open(&lab.lan, "203.0.113.2:8080").unwrap();
    let tables = Tables::new(datapath.pins());
    // A generation that never was: over from the start.
    fill(&datapath, MILLION / 2, 7);
    let (start, mut longest) = (Instant::now(), Duration::ZERO);
    while entries(&tables, Tier::Established) > 2 {
        let asked = Instant::now();
        talk.ask().unwrap();
        assert!(datapath.cli(&["status"]).status.success());
        longest = longest.max(asked.elapsed());
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "still not collected"
        );
    }
    println!(
        "collected after {:?}, longest wait {longest:?}",
        start.elapsed()
    );
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    talk.ask().unwrap();
}
