//! `datapath explain`: the answer is what then happens, and asking changes nothing.

use std::collections::BTreeMap;

use datapath_common::family::{Family, V4, V6};
use datapath_tests::lab::{Datapath, Lab, PORTS, run, udp_echo, udp_exchange, wait_until};
use datapath_user::kernel::{
    life::Tier,
    pinned::Pinned,
    tables::{Tabled, Tables},
};
use serde_json::Value;

use crate::talk::{self, Talk};

/// One that lets its stack forward, whatever rules the machine has.
fn start(lab: &Lab, keys: &str, more: &str) -> Datapath {
    lab.add_ipv6();
    Datapath::start_with(lab, keys, &format!("{PORTS}{more}"))
}

fn ask(datapath: &Datapath, question: &[&str]) -> Value {
    let output = datapath.cli(&[&["explain", "--json"], question].concat());
    assert!(output.status.success(), "{question:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Every flow with its counters, every mapping, every counter of a port: what asking might have changed. The
/// counters by reason are not in it, since the lab's own hosts chatter.
fn state(datapath: &Datapath) -> BTreeMap<String, String> {
    fn of<F: Tabled + Family>(tables: &Tables, all: &mut BTreeMap<String, String>) {
        for tier in [Tier::Established, Tier::Half] {
            for entry in tables.tier::<F>(tier).unwrap().iter() {
                let (key, flow) = entry.unwrap();
                all.insert(format!("{tier:?} {key:?}"), format!("{flow:?}"));
            }
        }
        for entry in tables.mappings::<F>().unwrap().1.iter() {
            let (key, mapping) = entry.unwrap();
            all.insert(format!("{key:?}"), format!("{mapping:?}"));
        }
    }
    let tables = Tables::new(datapath.pins());
    let mut all = BTreeMap::new();
    of::<V4>(&tables, &mut all);
    of::<V6>(&tables, &mut all);
    for port in Pinned::open(datapath.pins()).unwrap().ports().unwrap() {
        all.insert(port.publication.listen.to_string(), format!("{port:?}"));
    }
    all
}

#[test]
fn each_way_is_told_and_nothing_is_changed() {
    let lab = Lab::new();
    let datapath = start(&lab, "forwarding = \"kernel\"", "");
    udp_echo(&lab.lan, "0.0.0.0:5353");
    udp_exchange(&lab.container, "203.0.113.9:5353", "x").unwrap();
    let before = state(&datapath);
    assert!(before.len() > 4, "{before:#?}");
    for (question, verdict, reason, part) in [
        (
            &["tcp", "203.0.113.9:40000", "203.0.113.2:8080"][..],
            "translated",
            "publish",
            "docker0",
        ),
        (
            &["tcp", "[2001:db8::9]:40000", "[2001:db8::2]:8080"],
            "translated",
            "publish",
            "docker0",
        ),
        (
            &["udp", "203.0.113.9", "203.0.113.2:5300"],
            "translated",
            "publish",
            "docker0",
        ),
        (
            &["tcp", "203.0.113.9", "203.0.113.2:22"],
            "passed",
            "not-ours",
            "this host itself",
        ),
        (
            &["tcp", "203.0.113.9", "172.17.0.2:80"],
            "dropped",
            "unpublished",
            "",
        ),
        (
            &["tcp", "172.17.0.9", "203.0.113.2:8080", "--in", "eth0"],
            "dropped",
            "forged-source",
            "",
        ),
        (
            &["udp", "172.17.0.2:1234", "203.0.113.9:53"],
            "translated",
            "masquerade",
            "out by eth0",
        ),
        (
            &["udp", "fd00:17::2", "[2001:db8::9]:53"],
            "translated",
            "masquerade",
            "out by eth0",
        ),
        (
            &["icmp", "172.17.0.2:77", "203.0.113.9"],
            "translated",
            "masquerade",
            "out by eth0",
        ),
        (
            &["icmp", "fd00:17::2", "2001:db8::9"],
            "translated",
            "masquerade",
            "out by eth0",
        ),
        (
            &["tcp", "172.17.0.2", "203.0.113.2:8080"],
            "translated",
            "publish",
            "docker0",
        ),
        (
            &["tcp", "172.17.0.2", "172.17.0.1:22"],
            "passed",
            "to-host",
            "this host itself",
        ),
        (
            &["tcp", "10.9.9.9", "203.0.113.9:80", "--in", "docker0"],
            "dropped",
            "forged-source",
            "",
        ),
    ] {
        let answer = ask(&datapath, question);
        let last = answer["steps"].as_array().and_then(|steps| steps.last());
        assert_eq!(
            (
                answer["verdict"].as_str(),
                last.and_then(|step| step["reason"].as_str())
            ),
            (Some(verdict), Some(reason)),
            "{question:?}: {answer:#}"
        );
        let way = answer["way"].as_str().unwrap_or_default();
        assert!(way.contains(part), "{question:?}: {way}");
        assert_eq!(
            answer["remedy"].is_string(),
            verdict == "dropped",
            "{answer:#}"
        );
        assert_eq!(answer["exact"], true, "{answer:#}");
    }
    assert_eq!(state(&datapath), before);

    let answer = ask(&datapath, &["tcp", "203.0.113.9:40000", "203.0.113.2:8080"]);
    assert_eq!(answer["binding"]["listen"], "0.0.0.0:8080/tcp");
    assert_eq!(answer["binding"]["to"], "172.17.0.2:80");
    assert_eq!(answer["flow"]["new"], true);
    assert_eq!(answer["flow"]["reply"]["src"], "172.17.0.2");
    // Two endpoints of one bridge, and the host's own processes: none of the programs sees their packets.
    let answer = ask(&datapath, &["tcp", "172.17.0.2", "172.17.0.3:80"]);
    assert!(
        answer["because"].as_str().unwrap().contains("docker0"),
        "{answer:#}"
    );
    let answer = ask(&datapath, &["tcp", "203.0.113.2", "203.0.113.2:8080"]);
    assert!(
        answer["because"]
            .as_str()
            .unwrap()
            .contains("172.17.0.2:80"),
        "{answer:#}"
    );
    let text = datapath.cli(&["explain", "tcp", "203.0.113.9:40000", "172.17.0.2:80"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    println!("{text}");
    assert!(text.contains("Publish the port"), "{text}");
}

#[test]
fn a_flow_that_exists_is_found_and_left_alone() {
    let lab = Lab::new();
    let datapath = start(&lab, "forwarding = \"fast\"", "");
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut talk = Talk::open(&lab.lan, "203.0.113.2:8080").unwrap();
    talk.ask().unwrap();
    let flows = datapath.cli(&["flows", "--json"]).stdout;
    let flows: Value = serde_json::from_slice(&flows).unwrap();
    let client = format!("203.0.113.9:{}", flows["flows"][0]["original"]["sport"]);
    let inward = ask(&datapath, &["tcp", &client, "203.0.113.2:8080"]);
    assert_eq!(inward["steps"][0]["reason"], "flow", "{inward:#}");
    assert_eq!(
        (&inward["flow"]["new"], &inward["packet"]["first"]),
        (&false.into(), &false.into())
    );
    assert_eq!(
        inward["way"], "past the stack, straight into the endpoint by vc",
        "{inward:#}"
    );
    let outward = ask(&datapath, &["tcp", "172.17.0.2:80", &client]);
    let last = outward["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(last["reason"], "flow", "{outward:#}");
    assert_eq!(last["becomes"]["src"], "203.0.113.2", "{outward:#}");
    // The container's own way to its port: by its own port of the bridge, and straight in again.
    let mut own = Talk::open(&lab.container, "203.0.113.2:8080").unwrap();
    own.ask().unwrap();
    let flows = datapath
        .cli(&["flows", "--json", "--nat", "hairpin"])
        .stdout;
    let flows: Value = serde_json::from_slice(&flows).unwrap();
    let inside = format!("172.17.0.2:{}", flows["flows"][0]["original"]["sport"]);
    wait_until("the hairpin past the bridge", || {
        let answer = ask(&datapath, &["tcp", &inside, "203.0.113.2:8080"]);
        let steps = answer["steps"].as_array().unwrap();
        assert_eq!(steps.last().unwrap()["reason"], "flow", "{answer:#}");
        assert_eq!(answer["flow"]["nat"], "hairpin", "{answer:#}");
        steps.len() == 1 && answer["way"] == "past the stack, straight into the endpoint by vc"
    });
    // An acknowledgment that was delayed may come between two looks; it does not come for ever.
    wait_until("asking changes nothing", || {
        let before = state(&datapath);
        ask(&datapath, &["tcp", &client, "203.0.113.2:8080"]);
        ask(&datapath, &["tcp", "172.17.0.2:80", &client]);
        state(&datapath) == before
    });
    talk.ask().unwrap();
}

#[test]
fn a_source_port_that_is_taken_is_seen() {
    let lab = Lab::new();
    let neighbour = lab.add_container("d", "docker0", &["172.17.0.3/16"], &["172.17.0.1"]);
    let datapath = start(&lab, "forwarding = \"kernel\"", "");
    udp_echo(&lab.lan, "0.0.0.0:5353");
    // The neighbour has shown itself by this port; so may nobody else.
    run(neighbour.command("sh").args([
        "-c",
        "echo x | timeout 5 nc.openbsd -u -p 1234 -W 1 203.0.113.9 5353",
    ]));
    let answer = ask(&datapath, &["udp", "172.17.0.2:1234", "203.0.113.9:5353"]);
    let shown = &answer["steps"].as_array().unwrap().last().unwrap()["becomes"];
    assert_eq!(shown["src"], "203.0.113.2", "{answer:#}");
    assert_ne!(shown["sport"], 1234, "{answer:#}");
    let own = ask(&datapath, &["udp", "172.17.0.3:1234", "203.0.113.9:5353"]);
    let shown = &own["steps"].as_array().unwrap().last().unwrap()["becomes"];
    assert_eq!(shown["sport"], 1234, "{own:#}");
}

/// IPv6 clients of an endpoint that has IPv4 alone: both headers are told, whichever way it is asked.
#[test]
fn a_way_between_the_families_is_told() {
    const PORTS: &str = "[[publish]]\nlisten = \"[::]:8080\"\nto = \"172.17.0.2:80\"\n";
    let lab = Lab::new();
    lab.add_addresses("eth0", &["2001:db8::2/64"]);
    lab.lan.ip("addr add 2001:db8::9/64 dev eth0 nodad");
    let datapath = Datapath::start(&lab, PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let dialled = &["tcp", "[2001:db8::9]:40000", "[2001:db8::2]:8080"][..];
    for question in [
        dialled,
        &["tcp", "[2001:db8::9]:40000", "172.17.0.2:80"],
        &[
            "tcp",
            "[2001:db8::9]:40000",
            "172.17.0.2:80",
            "--in",
            "eth0",
        ],
    ] {
        let answer = ask(&datapath, question);
        assert_eq!(answer["packet"]["dst"], "2001:db8::2", "{answer:#}");
        assert_eq!(answer["packet"]["dport"], 8080, "{answer:#}");
        let step = &answer["steps"][0];
        assert_eq!(step["reason"], "nat64", "{answer:#}");
        let ends = &step["becomes"];
        assert_eq!(
            (&ends["src"], &ends["dst"], &ends["dport"]),
            (&"172.17.0.1".into(), &"172.17.0.2".into(), &80.into()),
            "{answer:#}"
        );
        assert_eq!(answer["binding"]["to"], "172.17.0.2:80", "{answer:#}");
        assert_eq!(answer["asked"].is_null(), question == dialled, "{answer:#}");
        let way = answer["way"].as_str().unwrap_or_default();
        assert!(way.starts_with("past the stack, "), "{answer:#}");
    }
    let mut talk = Talk::open(&lab.lan, "[2001:db8::2]:8080").unwrap();
    let flows = datapath.cli(&["flows", "--json", "--proto", "tcp"]).stdout;
    let flows: Value = serde_json::from_slice(&flows).unwrap();
    let (client, seen) = (
        format!("[2001:db8::9]:{}", flows["flows"][0]["original"]["sport"]),
        format!("172.17.0.1:{}", flows["flows"][0]["reply"]["dport"]),
    );
    wait_until("asking changes nothing", || {
        let before = state(&datapath);
        for to in [&client, &seen] {
            let answer = ask(&datapath, &["tcp", "172.17.0.2:80", to]);
            let last = answer["steps"].as_array().unwrap().last().unwrap();
            assert_eq!(last["reason"], "nat64", "{answer:#}");
            assert_eq!(last["becomes"]["src"], "2001:db8::2", "{answer:#}");
            assert_eq!(last["becomes"]["dst"], "2001:db8::9", "{answer:#}");
            assert_eq!(answer["way"], "past the stack, out by eth0", "{answer:#}");
            assert_eq!(answer["flow"]["new"], false, "{answer:#}");
        }
        state(&datapath) == before
    });
    talk.ask().unwrap();
    let text = datapath.cli(&["explain", "tcp", &client, "172.17.0.2:80"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    println!("{text}");
    for part in [" is, on the wire,\n", "> 172.17.0.2:80, a packet of IPv4\n"] {
        assert!(text.contains(part), "{text}");
    }
    let output = datapath.cli(&["explain", "tcp", "172.17.0.2:80", "[2001:db8::9]:1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("can only answer"), "{said}");
}

/// Where the driver's program is attached it comes first, and answers for itself.
#[test]
fn the_drivers_program_is_asked_first() {
    let lab = Lab::new();
    let datapath = start(&lab, "forwarding = \"fast\"\nxdp = \"native\"", "");
    run(lab
        .container
        .command("ethtool")
        .args(["-K", "eth0", "gro", "on"]));
    udp_echo(&lab.container, "0.0.0.0:53");
    let steps = |answer: &Value| -> Vec<(String, Value)> {
        let steps = answer["steps"].as_array().unwrap().iter();
        steps
            .map(|step| {
                let program = step["program"].as_str().unwrap();
                (program.to_owned(), step["reason"].clone())
            })
            .collect()
    };
    let step = |program: &str, reason: Value| (program.to_owned(), reason);
    let first = ask(&datapath, &["udp", "203.0.113.9:1", "203.0.113.2:5300"]);
    let on = [
        step("uplink_xdp", Value::Null),
        step("uplink_ingress", "publish".into()),
    ];
    assert_eq!(steps(&first), on, "{first:#}");
    assert_eq!(first["exact"], true, "{first:#}");
    let refused = ask(&datapath, &["tcp", "203.0.113.9:1", "172.17.0.2:80"]);
    let alone = [step("uplink_xdp", "unpublished".into())];
    assert_eq!(steps(&refused), alone, "{refused:#}");
    assert_eq!(refused["verdict"], "dropped", "{refused:#}");
    wait_until("the endpoint's port to take frames", || {
        drop(udp_exchange(&lab.lan, "203.0.113.2:5300", "x"));
        let flows = datapath.cli(&["flows", "--json", "--proto", "udp"]).stdout;
        let flows: Value = serde_json::from_slice(&flows).unwrap();
        let flow = &flows["flows"][0];
        let client = format!("203.0.113.9:{}", flow["original"]["sport"]);
        let known = ask(&datapath, &["udp", &client, "203.0.113.2:5300"]);
        flow["answered"] == true
            && steps(&known) == [step("uplink_xdp", "flow".into())]
            && known["way"] == "past the stack, straight into the endpoint by vc"
            && known["steps"][0]["becomes"]["dst"] == "172.17.0.2"
    });
}

#[test]
fn questions_that_make_no_sense() {
    let lab = Lab::new();
    let datapath = start(&lab, "", "");
    for (question, status, part) in [
        (
            &["tcp", "203.0.113.9", "203.0.113.2"][..],
            2,
            "203.0.113.2:80",
        ),
        (
            &["tcp", "203.0.113.9", "[2001:db8::2]:80"],
            1,
            "other address family",
        ),
        (
            &["tcp", "2001:db8::9", "172.17.0.2:81"],
            1,
            "no published port leads IPv6 clients there",
        ),
        (
            &["icmp", "2001:db8::9", "172.17.0.2"],
            2,
            "other address family",
        ),
        (&["icmp", "203.0.113.9", "203.0.113.2:80"], 2, "no port"),
        (
            &["tcp", "203.0.113.9", "203.0.113.2:80", "--in", "nowhere"],
            1,
            "nowhere",
        ),
        (
            &["tcp", "203.0.113.9", "203.0.113.2:80", "--in", "lo"],
            1,
            "no program is attached",
        ),
        (&["sctp", "203.0.113.9", "203.0.113.2:80"], 2, "sctp"),
        (&["tcp", "somebody", "203.0.113.2:80"], 2, "somebody"),
        (
            &["tcp", "203.0.113.9:0", "203.0.113.2:80"],
            2,
            "203.0.113.9:0",
        ),
    ] {
        let output = datapath.cli(&[&["explain"], question].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{question:?}: {said}");
        assert!(said.contains(part), "{question:?}: {said}");
        if status == 1 {
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}
