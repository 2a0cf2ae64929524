//! Answers of engines that cannot be had here, and answers that no engine should give.

use std::time::{Duration, Instant};

use datapath_tests::lab::{
    Datapath, FakeEngine, Lab, run, tcp_echo, tcp_exchange, udp_exchange, udp_server, wait_until,
};
use serde_json::{Value, json};

pub(crate) const EVENT: &str =
    r#"{"Type":"container","Action":"start","Actor":{"ID":"c1","Attributes":{}},"scope":"local"}"#;

/// A listing of docker0, which the lab's container is in, with these options.
fn networks(options: Value) -> String {
    json!([
        {"Name": "bridge", "Id": "aaaa", "Driver": "bridge", "Scope": "local",
         "EnableIPv4": true, "EnableIPv6": false, "Internal": false, "ConfigOnly": false,
         "IPAM": {"Driver": "default", "Options": null,
                  "Config": [{"Subnet": "172.17.0.0/16", "IPRange": "", "Gateway": "172.17.0.1"}]},
         "Status": {"IPAM": {"Subnets": {"172.17.0.0/16": {"IPsInUse": 3}}}},
         "Options": options, "Labels": {}},
        {"Name": "none", "Id": "bbbb", "Driver": "null", "IPAM": {"Config": null}, "Options": {}}
    ])
    .to_string()
}

pub(crate) fn bridge() -> String {
    networks(json!({"com.docker.network.bridge.name": "docker0"}))
}

/// A listing of one container with these ports, as engines from 28 on give it.
pub(crate) fn container(id: &str, ports: Value) -> Value {
    json!({
        "Id": id, "Names": ["/web"], "Image": "httpd", "State": "running", "Status": "Up", "Labels": {},
        "ImageManifestDescriptor": {"digest": "sha256:0"}, "Health": {"Status": "none"},
        "HostConfig": {"NetworkMode": "bridge", "Annotations": {"a": "b"}},
        "Ports": ports,
        "NetworkSettings": {"Networks": {"bridge": {
            "NetworkID": "aaaa", "EndpointID": "e", "Gateway": "172.17.0.1", "IPAddress": "172.17.0.2",
            "MacAddress": "02:42:ac:11:00:02", "GlobalIPv6Address": "", "GwPriority": 0, "DNSNames": null}}},
        "Mounts": []
    })
}

pub(crate) fn port(public: u16) -> Value {
    json!({"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": public, "Type": "tcp"})
}

pub(crate) fn lab(engine: &FakeEngine) -> (Lab, Datapath) {
    let lab = Lab::new();
    tcp_echo(&lab.container, "0.0.0.0:80");
    tcp_echo(&lab.container, "0.0.0.0:81");
    let config = format!("uplinks = [\"eth0\"]\n[docker]\n{}", engine.section());
    let datapath = Datapath::plain(&lab, &config);
    (lab, datapath)
}

pub(crate) fn answers(lab: &Lab, to: &str) -> bool {
    tcp_exchange(&lab.lan, to, b"x".to_vec()).is_ok_and(|answer| answer == b"x")
}

/// What the service complains of.
pub(crate) fn problems(datapath: &Datapath) -> Vec<String> {
    let status = datapath.cli(&["status", "--json"]).stdout;
    let status: Value = serde_json::from_slice(&status).expect("JSON");
    let problems = status["service"]["problems"].as_array().cloned();
    let problems = problems.unwrap_or_default().into_iter();
    problems
        .filter_map(|line| line.as_str().map(str::to_owned))
        .collect()
}

#[test]
fn engines_old_and_new_are_spoken_to_in_a_version_that_they_know() {
    let engine = FakeEngine::new();
    for (newest, oldest, spoken) in [
        ("1.41", "1.12", "/v1.41/"),
        ("1.53", "1.44", "/v1.53/"),
        ("1.99", "1.44", "/v1.53/"),
        ("2.7", "2.1", "/v2.1/"),
        ("nonsense", "", "/v1.53/"),
    ] {
        engine.is(
            &json!({"Version": "x", "ApiVersion": newest, "MinAPIVersion": oldest}).to_string(),
        );
        engine.lists(
            &bridge(),
            &json!([container("c1", json!([port(8080)]))]).to_string(),
        );
        let (lab, datapath) = lab(&engine);
        wait_until("the port", || answers(&lab, "203.0.113.2:8080"));
        let asked = engine.asked();
        assert_eq!(asked[0], "/version");
        let listings = asked.iter().filter(|path| path.contains("/containers/"));
        let others = listings.filter(|path| !path.starts_with(spoken));
        assert_eq!(others.count(), 0, "{asked:?}");
        assert_eq!(problems(&datapath), [""; 0]);
    }
}

#[test]
fn a_network_that_is_routed_shows_its_published_ports_and_nothing_else() {
    let engine = FakeEngine::new();
    let (lab, datapath) = {
        let options = json!({"com.docker.network.bridge.name": "docker0",
                             "com.docker.network.bridge.gateway_mode_ipv4": "routed"});
        let ports = json!([{"IP": "0.0.0.0", "PrivatePort": 80, "Type": "tcp"},
                           {"IP": "0.0.0.0", "PrivatePort": 53, "Type": "udp"},
                           {"PrivatePort": 81, "Type": "tcp"}]);
        engine.lists(
            &networks(options),
            &json!([container("c1", ports)]).to_string(),
        );
        lab(&engine)
    };
    lab.lan.ip("route add 172.17.0.0/16 via 203.0.113.2");
    udp_server(&lab.container, "0.0.0.0:53", "named");
    wait_until("the port", || answers(&lab, "172.17.0.2:80"));
    assert!(pings(&lab), "an echo request, which Docker lets through");
    assert_eq!(
        udp_exchange(&lab.lan, "172.17.0.2:53", "who?").unwrap(),
        "named"
    );
    assert!(
        !answers(&lab, "172.17.0.2:81"),
        "a port that is not published is reached"
    );
    assert!(
        !answers(&lab, "203.0.113.2:80"),
        "the host has a port that nobody published on it"
    );
    // And it goes out with its own address.
    tcp_echo(&lab.lan, "0.0.0.0:7");
    let answer = tcp_exchange(&lab.container, "203.0.113.9:7", b"x".to_vec());
    assert_eq!(answer.unwrap(), b"x");
    let flows = String::from_utf8(datapath.cli(&["flows", "--nat", "routed"]).stdout).unwrap();
    assert!(flows.contains("dport=7 "), "{flows}");
    // The mode changes under it: what was open is closed.
    engine.lists(
        &bridge(),
        &json!([container("c1", json!([port(8080)]))]).to_string(),
    );
    engine.tells(EVENT);
    wait_until("the mapped port", || answers(&lab, "203.0.113.2:8080"));
    assert!(!answers(&lab, "172.17.0.2:80"));
    assert!(!pings(&lab));
}

/// Whether the container answers a ping at its own address: a small one, and one in fragments.
fn pings(lab: &Lab) -> bool {
    ["56", "4000"].iter().all(|size| {
        let mut ping = lab.lan.command("ping");
        let ping = ping.args(["-c1", "-W1", "-s", size, "172.17.0.2"]);
        ping.output().expect("ping").status.success()
    })
}

#[test]
fn a_network_without_protection_is_reached_by_its_own_addresses() {
    let engine = FakeEngine::new();
    let options = json!({"com.docker.network.bridge.name": "docker0",
                         "com.docker.network.bridge.gateway_mode_ipv4": "nat-unprotected"});
    engine.lists(
        &networks(options),
        &json!([container("c1", json!([port(8080)]))]).to_string(),
    );
    let (lab, datapath) = lab(&engine);
    lab.lan.ip("route add 172.17.0.0/16 via 203.0.113.2");
    udp_server(&lab.container, "0.0.0.0:53", "named");
    wait_until("the published port", || answers(&lab, "203.0.113.2:8080"));
    assert!(pings(&lab));
    for at in ["172.17.0.2:80", "172.17.0.2:81"] {
        assert!(answers(&lab, at), "{at}");
    }
    assert_eq!(
        udp_exchange(&lab.lan, "172.17.0.2:53", "who?").unwrap(),
        "named"
    );
    // A port that nobody listens on is refused by the container itself.
    let nobody = udp_exchange(&lab.lan, "172.17.0.2:9", "who?").map_err(|error| error.kind());
    assert_eq!(nobody, Err(std::io::ErrorKind::ConnectionRefused));
    // What the container begins goes out with the host's address.
    tcp_echo(&lab.lan, "0.0.0.0:7");
    let answer = tcp_exchange(&lab.container, "203.0.113.9:7", b"x".to_vec());
    assert_eq!(answer.unwrap(), b"x");
    let flows = String::from_utf8(datapath.cli(&["flows", "--nat", "masquerade"]).stdout).unwrap();
    assert!(flows.contains("dport=7 "), "{flows}");
}

#[test]
fn odd_answers_hide_nothing_inject_nothing_and_pass() {
    let engine = FakeEngine::new();
    engine.lists(&bridge(), "[]");
    let (lab, datapath) = lab(&engine);
    let mut odd = container(
        "c1\n\u{1b}[31m",
        json!([port(8080), {"IP": "x\ny", "PrivatePort": 1,
        "PublicPort": 2, "Type": "tcp"}, {"Type": 7}, {"IP": "::%\u{1b}", "PrivatePort": 1, "PublicPort": 3,
        "Type": "udp"}, {"IP": "0.0.0.0", "PrivatePort": 1, "PublicPort": 9, "Type": "of tomorrow"}]),
    );
    odd["Names"] = json!(["/../../x\r\n"]);
    odd["State"] = json!("of tomorrow");
    odd["Labels"] = json!({"evil\n[ERROR] all is lost": "\u{1b}[2J", "big": "x".repeat(1 << 20)});
    let list =
        json!([null, 7, {"Id": {"not": "text\n"}}, {}, odd, container("c2", json!([port(8081)]))]);
    engine.lists(&bridge(), &list.to_string());
    engine.tells(&EVENT.replace("{}", "{\"name\": \"\\u001b[2J\\n\"}"));
    wait_until("the good ports", || {
        answers(&lab, "203.0.113.2:8080") && answers(&lab, "203.0.113.2:8081")
    });
    let said = problems(&datapath);
    assert!(said.len() >= 5, "{said:?}");
    // Whatever comes instead of JSON, what was said last stays in force, and the next good answer counts.
    for nonsense in ["", "{", "{\"Id\": 1}", "null", "\"x\"", "[[[[[[[["] {
        engine.lists(&bridge(), nonsense);
        engine.tells(EVENT);
        wait_until("it is said", || !problems(&datapath).is_empty());
        assert!(answers(&lab, "203.0.113.2:8080"), "{nonsense}");
    }
    // So does what is no event, with the line that it comes on.
    engine.lists(
        &bridge(),
        &json!([container("c3", json!([port(8082)]))]).to_string(),
    );
    wait_until("the engine is followed", || {
        engine.tells("{\"Type\": [\u{7}") > 0
    });
    wait_until("the next good answer", || answers(&lab, "203.0.113.2:8082"));
    wait_until("nothing is wrong any more", || {
        problems(&datapath).is_empty()
    });
    let log = datapath.log();
    assert!(!log.contains('\u{1b}') && !log.contains('\u{7}'), "{log}");
    assert!(
        !log.lines().any(|line| line.starts_with("[ERROR]")),
        "{log}"
    );
}

#[test]
fn what_no_event_told_of_is_found_by_looking() {
    let engine = FakeEngine::new();
    engine.lists(&bridge(), "[]");
    let (lab, _datapath) = lab(&engine);
    wait_until("the engine is followed", || engine.tells(EVENT) > 0);
    // Nothing says that this happened; a listing 2 seconds after the last event shows it at the latest.
    engine.lists(
        &bridge(),
        &json!([container("c1", json!([port(8080)]))]).to_string(),
    );
    wait_until("the port", || answers(&lab, "203.0.113.2:8080"));
}

#[test]
fn an_engine_that_hangs_up_or_falls_silent_is_asked_again() {
    let engine = FakeEngine::new();
    engine.lists(
        &bridge(),
        &json!([container("c1", json!([port(8080)]))]).to_string(),
    );
    let (lab, datapath) = lab(&engine);
    wait_until("the port", || answers(&lab, "203.0.113.2:8080"));
    wait_until("the engine is followed", || engine.tells(EVENT) > 0);
    engine.lists(
        &bridge(),
        &json!([container("c2", json!([port(8081)]))]).to_string(),
    );
    let start = Instant::now();
    engine.hangs_up();
    wait_until("what changed meanwhile", || {
        answers(&lab, "203.0.113.2:8081")
    });
    eprintln!("found {:?} after the connection broke", start.elapsed());
    assert!(!answers(&lab, "203.0.113.2:8080"));
    engine.mute(true);
    engine.hangs_up();
    let publish = ["publish", "9000:80", "--to", "172.17.0.2"];
    assert!(
        datapath.cli(&publish).status.success(),
        "an engine without a word holds up the API"
    );
    assert!(answers(&lab, "203.0.113.2:9000") && answers(&lab, "203.0.113.2:8081"));
    // Not more often than the waiting time allows.
    drop(engine.asked());
    std::thread::sleep(Duration::from_millis(500));
    assert!(engine.asked().len() < 20);
}

#[test]
fn who_has_a_port_keeps_it_when_the_service_is_started_anew() {
    let engine = FakeEngine::new();
    engine.lists(
        &bridge(),
        &json!([container("c1", json!([port(8080)]))]).to_string(),
    );
    let (_lab, mut datapath) = lab(&engine);
    let owner = |datapath: &Datapath| {
        let ports = datapath.cli(&["ports", "--json"]).stdout;
        let ports: Value = serde_json::from_slice(&ports).expect("JSON");
        ports["ports"][0]["owner"].as_str().map(str::to_owned)
    };
    wait_until("the port", || owner(&datapath).as_deref() == Some("c1"));
    let publish = "\n[[publish]]\nlisten = \"0.0.0.0:8080\"\nto = \"172.17.0.2:81\"\n[docker]";
    datapath.edit("\n[docker]", publish);
    datapath.kill();
    datapath.restart();
    assert_eq!(owner(&datapath).as_deref(), Some("c1"));
    let said = problems(&datapath);
    assert!(
        said.iter()
            .any(|line| line == "0.0.0.0:8080/tcp: file wants it, but c1 has it"),
        "{said:?}"
    );
    // With the container gone the file has it.
    engine.lists(&bridge(), "[]");
    wait_until("the engine is followed", || engine.tells(EVENT) > 0);
    wait_until("the younger one", || {
        owner(&datapath).as_deref() == Some("file")
    });
}

/// Until it speaks what is in force stays, and nothing comes back that was withdrawn since the service began.
#[test]
fn another_engine_in_the_configuration_that_does_not_speak() {
    let (engine, silent) = (FakeEngine::new(), FakeEngine::new());
    silent.mute(true);
    let list = |port_of| json!([container("c1", json!([port(port_of)]))]).to_string();
    engine.lists(&bridge(), &list(8080));
    let (lab, mut datapath) = lab(&engine);
    wait_until("the port", || answers(&lab, "203.0.113.2:8080"));
    // The next service finds it in the maps.
    datapath.kill();
    datapath.restart();
    engine.lists(&bridge(), &list(8081));
    wait_until("the engine is followed", || engine.tells(EVENT) > 0);
    wait_until("another port in its place", || {
        answers(&lab, "203.0.113.2:8081")
    });
    assert!(!answers(&lab, "203.0.113.2:8080"));
    datapath.edit(&engine.section(), &silent.section());
    let before = reconciliations(&datapath);
    datapath.signal("-HUP");
    wait_until("it is read again, and looked at everything", || {
        datapath.log().contains("was read again") && reconciliations(&datapath) > before
    });
    assert!(answers(&lab, "203.0.113.2:8081"), "it went");
    assert!(!answers(&lab, "203.0.113.2:8080"), "it came back");
}

fn reconciliations(datapath: &Datapath) -> u64 {
    let status = datapath.cli(&["status", "--json"]).stdout;
    let status: Value = serde_json::from_slice(&status).expect("JSON");
    status["service"]["reconciliations"]
        .as_u64()
        .expect("a number")
}

#[test]
fn containers_that_come_and_go_faster_than_one_can_look_leave_nothing() {
    let engine = FakeEngine::new();
    engine.lists(&bridge(), "[]");
    let (lab, datapath) = lab(&engine);
    wait_until("the engine is followed", || engine.tells(EVENT) > 0);
    for round in 0..300_u16 {
        let id = format!("c{round}");
        let list = json!([container(&id, json!([port(9000 + round)]))]).to_string();
        engine.lists(&bridge(), &list);
        // In any order: the end before the beginning.
        for action in ["die", "start", "disconnect", "destroy", "create", "connect"] {
            engine.tells(&EVENT.replace("start", action));
        }
    }
    let last = json!([container("last", json!([port(8080)]))]).to_string();
    engine.lists(&bridge(), &last);
    engine.tells(EVENT);
    wait_until("the last one, alone", || {
        let ports = datapath.cli(&["ports", "--json"]).stdout;
        let ports: Value = serde_json::from_slice(&ports).expect("JSON");
        let ports = ports["ports"].as_array().expect("a list");
        ports.len() == 1 && ports[0]["port"] == 8080 && ports[0]["owner"] == "last"
    });
    assert!(answers(&lab, "203.0.113.2:8080"));
    let map = datapath.maps().join("BINDINGS4");
    let mut dump = std::process::Command::new("bpftool");
    let dump = run(dump.args(["-j", "map", "dump", "pinned"]).arg(map));
    let entries: Value = serde_json::from_slice(&dump.stdout).expect("JSON");
    assert_eq!(entries.as_array().map(Vec::len), Some(1), "{entries}");
}
