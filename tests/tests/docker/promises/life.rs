//! What happens to ports while containers and networks come, go and change.

use std::net::TcpStream;

use datapath_tests::lab::wait_until;

use super::{Check, Stage, who};

pub(super) const CHECKS: &[Check] = &[
    ("PublishedPortAlreadyInUse", already_in_use),
    ("JoinError", start_that_fails),
    ("RestartUnder2MSL", restart_at_once),
    ("RestartWithAnotherAddress", another_address),
    ("RestartAlways", restart_loop),
    ("Pause", pause),
    ("RenameAndUpdate", rename),
    ("Kill", kill),
    ("SeveralNetworks", several_networks),
    ("ConnectAndDisconnectWhileRunning", connect_while_running),
    ("NetworkRemoved", network_removed),
    ("ManyAtOnce", many_at_once),
    ("HostileLabels", hostile_labels),
    ("GoneAtOnce", gone_at_once),
    ("SourcesTogether", sources_together),
];

fn already_in_use(stage: &Stage) {
    stage.serve("first", &["-p", "8080:80"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "first");
    let second = stage
        .lab
        .docker
        .cli(&["run", "-d", "--name", "second", "-p", "8080:80", "httpd"]);
    assert!(!second.status.success());
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "first");
    // With the first gone the second gets it.
    stage.remove(&["first", "second"]);
    stage.serve("second", &["-p", "8080:80"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "second");
}

fn start_that_fails(stage: &Stage) {
    let broken = [
        "run",
        "-d",
        "--name",
        "broken",
        "-p",
        "8080:80",
        "httpd",
        "/no/such/program",
    ];
    assert!(!stage.lab.docker.cli(&broken).status.success());
    wait_until("nothing is published", || stage.ports() == 0);
    assert_eq!(who(&stage.lab.lan, "203.0.113.2:8080"), None);
}

fn restart_at_once(stage: &Stage) {
    stage.serve("web", &["-p", "8080:80"]);
    for _ in 0..3 {
        stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
        // Connections that wait in TIME_WAIT, and one that is open.
        let held = stage
            .lab
            .lan
            .enter(|| TcpStream::connect("203.0.113.2:8080"));
        stage.lab.docker.ask(&["restart", "-t", "0", "web"]);
        drop(held);
    }
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
}

fn another_address(stage: &Stage) {
    let docker = &stage.lab.docker;
    stage.serve("web", &["--network", "blue", "-p", "8080:80"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
    let before = docker.address("web", "blue");
    docker.stop("web");
    stage.closes(&stage.lab.lan, "203.0.113.2:8080");
    stage.serve("holder", &["--network", "blue"]);
    docker.ask(&["start", "web"]);
    assert_ne!(docker.address("web", "blue"), before, "the test's premise");
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
}

fn restart_loop(stage: &Stage) {
    let docker = &stage.lab.docker;
    // It ends a moment after it has begun, again and again: its port opens and closes with it.
    docker.run(
        "loop",
        &["--restart", "always", "-p", "8081:80"],
        &["sh", "-c", "sleep 0.1"],
    );
    stage.serve("web", &["-p", "8080:80"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
    wait_until("some restarts", || {
        let count = docker.inspect("loop", "{{.RestartCount}}");
        count.parse::<u32>().is_ok_and(|count| count >= 3)
    });
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
    stage.remove(&["loop"]);
    wait_until("the other's port alone", || stage.ports() == 1);
}

fn pause(stage: &Stage) {
    stage.serve("web", &["-p", "8080:80"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
    stage.lab.docker.ask(&["pause", "web"]);
    // Its kernel takes connections, and nobody answers: as with any process that is stopped.
    assert_eq!(who(&stage.lab.lan, "203.0.113.2:8080"), None);
    assert_eq!(stage.ports(), 1);
    stage.lab.docker.ask(&["unpause", "web"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
}

fn rename(stage: &Stage) {
    stage.serve("web", &["-p", "8080:80"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
    stage.lab.docker.ask(&["rename", "web", "renamed"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
    stage.remove(&["renamed"]);
    stage.closes(&stage.lab.lan, "203.0.113.2:8080");
}

fn kill(stage: &Stage) {
    stage.serve("web", &["-p", "8080:80"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
    stage.lab.docker.ask(&["kill", "web"]);
    stage.closes(&stage.lab.lan, "203.0.113.2:8080");
    wait_until("nothing is published", || stage.ports() == 0);
}

fn several_networks(stage: &Stage) {
    let docker = &stage.lab.docker;
    docker.ask(&[
        "create",
        "--name",
        "web",
        "--network",
        "green",
        "-p",
        "8080:80",
        "httpd",
        "sh",
        "-c",
        "echo web > /www/name; exec httpd -f -p 80 -h /www",
    ]);
    // One whose name comes before the other's, one of both families, and one that never leads out.
    for network in ["blue", "six", "inside"] {
        docker.ask(&["network", "connect", network, "web"]);
    }
    docker.ask(&["start", "web"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
    // It is the engine that decides which network the port leads to: the one of the default route.
    let route = datapath_tests::lab::run(docker.netns("web").command("ip").args([
        "route",
        "get",
        "203.0.113.9",
    ]));
    let route = String::from_utf8_lossy(&route.stdout).into_owned();
    let ports = datapath_tests::lab::run(&mut stage.datapath.command(&["ports", "--json"])).stdout;
    let ports: serde_json::Value = serde_json::from_slice(&ports).expect("JSON");
    let to = ports["ports"][0]["to_address"]
        .as_str()
        .expect("an address");
    assert!(
        route.contains(&format!("src {to} ")),
        "leads to {to}, but the way out is {route}"
    );
}

fn connect_while_running(stage: &Stage) {
    let docker = &stage.lab.docker;
    stage.serve("web", &["--network", "green", "-p", "8080:80"]);
    stage.serve("neighbour", &["--network", "blue"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
    let neighbour = docker.netns("neighbour");
    for _ in 0..2 {
        docker.ask(&["network", "connect", "blue", "web"]);
        stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
        let at = format!("{}:80", docker.address("web", "blue"));
        stage.opens(&neighbour, &at, "web");
        docker.ask(&["network", "disconnect", "blue", "web"]);
        stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
        assert_eq!(
            who(&neighbour, &at),
            None,
            "a network that was left is still reached"
        );
    }
    // Out of its last network its port leads nowhere; with another one it is there again.
    docker.ask(&["network", "disconnect", "green", "web"]);
    stage.closes(&stage.lab.lan, "203.0.113.2:8080");
    docker.ask(&["network", "connect", "blue", "web"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
}

fn network_removed(stage: &Stage) {
    let docker = &stage.lab.docker;
    docker.ask(&[
        "network",
        "create",
        "brief",
        "--subnet",
        "172.25.0.0/16",
        "-o",
        "com.docker.network.bridge.name=brief0",
    ]);
    stage.serve("web", &["--network", "brief", "-p", "8080:80"]);
    stage.serve("stays", &["-p", "8081:80"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
    stage.remove(&["web"]);
    docker.ask(&["network", "rm", "brief"]);
    stage.closes(&stage.lab.lan, "203.0.113.2:8080");
    stage.opens(&stage.lab.lan, "203.0.113.2:8081", "stays");
    wait_until("the bridge is forgotten", || {
        let status =
            datapath_tests::lab::run(&mut stage.datapath.command(&["status", "--json"])).stdout;
        !String::from_utf8_lossy(&status).contains("brief0")
    });
}

fn many_at_once(stage: &Stage) {
    // As compose starts a project: all at the same time.
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (name, port) = (format!("many{number}"), format!("{}:80", 8100 + number));
            scope.spawn(move || stage.serve(&name, &["-p", &port]));
        }
    });
    for number in 0..8 {
        stage.opens(
            &stage.lab.lan,
            &format!("203.0.113.2:{}", 8100 + number),
            &format!("many{number}"),
        );
    }
}

fn hostile_labels(stage: &Stage) {
    let long = format!("long={}", "x".repeat(100_000));
    stage.serve(
        "web",
        &[
            "-p",
            "8080:80",
            "--label",
            "a=\u{1b}[31m\n2026 ERROR all is lost",
            "--label",
            &long,
            "--label",
            "%s%n=../../x",
        ],
    );
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
    let log = stage.datapath.log();
    assert!(
        !log.contains("all is lost") && !log.contains('\u{1b}'),
        "{log}"
    );
}

fn gone_at_once(stage: &Stage) {
    for _ in 0..3 {
        let ran = stage
            .lab
            .docker
            .cli(&["run", "--rm", "-p", "8080:80", "httpd", "true"]);
        assert!(ran.status.success(), "{ran:?}");
    }
    wait_until("nothing is published", || stage.ports() == 0);
}

fn sources_together(stage: &Stage) {
    let (docker, datapath) = (&stage.lab.docker, &stage.datapath);
    let publish = |port: &str, to: &str| datapath.cli(&["publish", port, "--to", to]);
    stage.serve("web", &["-p", "8080:80"]);
    stage.opens(&stage.lab.lan, "203.0.113.2:8080", "web");
    let address = docker.address("web", "bridge").to_string();
    // Docker's is older: it stays, and whoever asks is told who has it.
    let refused = publish("8080:80", &address);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let id = docker.inspect("web", "{{.Id}}");
    assert!(
        !refused.status.success() && said.contains(&id[..12]),
        "{said}"
    );
    // The API's is older: it stays, and the conflict names both.
    stage.serve("other", &[]);
    assert!(
        publish("8081:80", &docker.address("other", "bridge").to_string())
            .status
            .success()
    );
    stage.opens(&stage.lab.lan, "203.0.113.2:8081", "other");
    stage.serve("late", &["-p", "8081:80"]);
    let late = docker.inspect("late", "{{.Id}}");
    wait_until("the conflict is said", || {
        let status = String::from_utf8(datapath.cli(&["status"]).stdout).expect("text");
        status.lines().any(|line| {
            line.contains("0.0.0.0:8081/tcp") && line.contains(&late[..12]) && line.contains("api")
        })
    });
    stage.opens(&stage.lab.lan, "203.0.113.2:8081", "other");
    // With the older one gone the younger one has it.
    assert!(datapath.cli(&["unpublish", "8081"]).status.success());
    stage.opens(&stage.lab.lan, "203.0.113.2:8081", "late");
    let nonsense = datapath.cli(&["publish", "nonsense", "--to", "172.17.0.2"]);
    assert_eq!(nonsense.status.code(), Some(2));
    let nonsense = datapath.cli(&["publish", "8083:80", "--to", "nonsense"]);
    let said = String::from_utf8_lossy(&nonsense.stderr).into_owned();
    assert!(
        nonsense.status.code() == Some(2) && said.contains("172.17.0.2"),
        "{said}"
    );
}
