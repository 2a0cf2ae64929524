//! What an engine said stays in force no longer than it is true.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use datapath_tests::lab::{Datapath, FakeEngine, PATIENCE, run, tcp_exchange, wait_until};
use serde_json::{Value, json};

use crate::answers::{EVENT, answers, bridge, container, lab, port, problems};

/// The published ports, by family.
fn ports(datapath: &Datapath) -> Vec<(bool, u64)> {
    let ports = datapath.cli(&["ports", "--json"]).stdout;
    let ports: Value = serde_json::from_slice(&ports).expect("JSON");
    let ports = ports["ports"].as_array().expect("a list").iter();
    let mut ports: Vec<_> = ports
        .map(|port| {
            let six = port["address"] == "::";
            (six, port["port"].as_u64().expect("a port"))
        })
        .collect();
    ports.sort_unstable();
    ports
}

/// A listing of one container whose port 80 is published there.
fn one(public: u16) -> String {
    json!([container("c1", json!([port(public)]))]).to_string()
}

#[test]
fn a_port_of_the_engines_choice_is_the_same_for_both_families_after_a_restart() {
    let engine = FakeEngine::new();
    let any = json!({"HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": ""}]}}});
    engine.says_of("c1", Some(&any.to_string()));
    engine.lists(&bridge(), &one(49153));
    let (_lab, datapath) = lab(&engine);
    wait_until("both", || {
        ports(&datapath) == [(false, 49153), (true, 49153)]
    });
    wait_until("the engine is followed", || engine.tells(EVENT) > 0);
    // It was restarted faster than anybody looked, and has another port now.
    engine.lists(&bridge(), &one(49154));
    engine.tells(EVENT);
    wait_until("both, and the former ones not", || {
        ports(&datapath) == [(false, 49154), (true, 49154)]
    });
}

#[test]
fn a_container_that_the_engine_says_nothing_of_holds_up_no_other() {
    let engine = FakeEngine::new();
    engine.says_of("c1", None);
    engine.lists(&bridge(), &one(8080));
    let (lab, datapath) = lab(&engine);
    wait_until("its own port", || answers(&lab, "203.0.113.2:8080"));
    wait_until("the engine is followed", || engine.tells(EVENT) > 0);
    let both = json!([
        container("c1", json!([port(8080)])),
        container("c2", json!([port(8081)]))
    ]);
    engine.lists(&bridge(), &both.to_string());
    engine.tells(EVENT);
    wait_until("the other's", || answers(&lab, "203.0.113.2:8081"));
    engine.lists(&bridge(), "[]");
    engine.tells(EVENT);
    wait_until("none", || ports(&datapath).is_empty());
}

#[test]
fn another_engine_has_to_speak_before_the_former_ones_ports_go() {
    let engine = FakeEngine::new();
    engine.lists(&bridge(), "[]");
    let (lab, datapath) = lab(&engine);
    wait_until("the engine is followed", || engine.tells(EVENT) > 0);
    // One that comes after the service.
    engine.lists(&bridge(), &one(8080));
    engine.tells(EVENT);
    wait_until("the port", || answers(&lab, "203.0.113.2:8080"));
    let stays = || ports(&datapath) == [(false, 8080)] && answers(&lab, "203.0.113.2:8080");
    let nowhere = "socket = \"/nowhere/docker.sock\"";
    datapath.edit(&engine.section(), nowhere);
    datapath.signal("-HUP");
    wait_until("it is said that there is none", || {
        problems(&datapath)
            .concat()
            .contains("/nowhere/docker.sock")
    });
    assert!(stays());
    let another = FakeEngine::new();
    another.lists(&bridge(), &one(8081));
    another.mute(true);
    datapath.edit(nowhere, &another.section());
    datapath.signal("-HUP");
    wait_until("the other one is asked", || !another.asked().is_empty());
    assert!(stays());
    another.mute(false);
    another.hangs_up();
    wait_until("the other one's", || ports(&datapath) == [(false, 8081)]);
    // One that is not followed any more has none.
    datapath.edit(&another.section(), "enabled = false");
    datapath.signal("-HUP");
    wait_until("none", || ports(&datapath).is_empty());
}

#[test]
fn whoever_has_the_address_next_while_the_engine_is_away_has_not_the_port() {
    let engine = FakeEngine::new();
    engine.lists(&bridge(), &one(8080));
    let (lab, datapath) = lab(&engine);
    wait_until("the port", || answers(&lab, "203.0.113.2:8080"));
    wait_until("its endpoint is known", || {
        let mut dump = std::process::Command::new("bpftool");
        let map = datapath.maps().join("ENDPOINTS4");
        let dump = run(dump.args(["-j", "map", "dump", "pinned"]).arg(map));
        serde_json::from_slice::<Value>(&dump.stdout).expect("JSON") != json!([])
    });
    // It goes while the engine is away, and an engine that comes back starts another one before it answers.
    engine.mute(true);
    engine.hangs_up();
    wait_until("its absence is said", || !problems(&datapath).is_empty());
    assert!(answers(&lab, "203.0.113.2:8080"), "it is still there");
    lab.host.ip("link del vc");
    wait_until("its port is closed", || ports(&datapath).is_empty());
    lab.host.ip(&format!(
        "link add vd type veth peer name eth0 netns {}",
        lab.container.name()
    ));
    lab.host.ip("link set vd master docker0 up");
    lab.container.ip("addr add 172.17.0.2/16 dev eth0");
    lab.container.ip("link set eth0 up");
    lab.container.ip("route add default via 172.17.0.1");
    wait_until("the other one is there", || {
        let answer = tcp_exchange(&lab.host, "172.17.0.2:80", b"x".to_vec());
        answer.is_ok_and(|answer| answer == b"x")
    });
    assert!(
        !answers(&lab, "203.0.113.2:8080"),
        "another's port leads to it"
    );
    // The engine knows better.
    engine.mute(false);
    engine.hangs_up();
    wait_until("the engine's word", || answers(&lab, "203.0.113.2:8080"));
}

#[test]
fn whoever_came_before_a_port_was_published_is_not_left_without_a_word() {
    let engine = FakeEngine::new();
    engine.lists(&bridge(), "[]");
    let (lab, datapath) = lab(&engine);
    wait_until("the engine is followed", || engine.tells(EVENT) > 0);
    // As an engine without docker-proxy holds its ports; and as docker-proxy does.
    let listen = |at: &'static str| {
        lab.host
            .enter(move || TcpListener::bind(at).expect("a listener"))
    };
    let (_held, served) = (listen("0.0.0.0:8080"), listen("0.0.0.0:8081"));
    let _six = listen("[::1]:8080");
    let mut early = [
        (&lab.lan, "203.0.113.2:8080"),
        (&lab.host, "127.0.0.1:8080"),
        (&lab.host, "[::1]:8080"),
    ]
    .map(|(from, at)| from.enter(|| TcpStream::connect(at).expect("the engine's socket")));
    let mut client = lab
        .host
        .enter(|| TcpStream::connect("127.0.0.1:8081").expect("the server"));
    let (mut accepted, _) = served.accept().expect("the client");
    let six = json!({"IP": "::1", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"});
    let list = json!([container("c1", json!([port(8080), port(8081), six]))]);
    engine.lists(&bridge(), &list.to_string());
    engine.tells(EVENT);
    for stream in &mut early {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let end = stream.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "{stream:?}");
    }
    assert!(answers(&lab, "203.0.113.2:8080"));
    // A connection that somebody has goes on.
    assert!(ports(&datapath).contains(&(false, 8081)));
    accepted.write_all(b"x").expect("the client is there");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(client.read(&mut [0]).expect("the server is there"), 1);
}
