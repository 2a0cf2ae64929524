//! A host moves over from iptables and docker-proxy, step by step, as `doctor` says: each step is the one that it
//! names.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use datapath_tests::lab::{Datapath, DockerLab, run, wait_until};
use serde_json::Value;

use crate::published::{fetches, serves};

/// Runs `datapath doctor`, shows what it says, and returns what is to be done: the check's name and the remedy.
fn todo(datapath: &Datapath) -> Vec<(String, String)> {
    let shown = datapath.cli(&["doctor"]);
    eprintln!(
        "$ datapath doctor\n{}{}",
        String::from_utf8_lossy(&shown.stdout),
        String::from_utf8_lossy(&shown.stderr)
    );
    let told = datapath.cli(&["doctor", "--json"]);
    let said: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let findings = said["findings"].as_array().expect("a list");
    let todo: Vec<_> = findings
        .iter()
        .filter(|finding| finding["state"] == "todo")
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().expect("text").to_owned();
            (text("check"), text("remedy"))
        })
        .collect();
    assert_eq!(said["fine"], todo.is_empty());
    assert_eq!(told.status.code(), Some(i32::from(!todo.is_empty())));
    assert_eq!(shown.status.code(), told.status.code());
    todo
}

/// What it says to a user without any privilege.
fn as_nobody(lab: &DockerLab, datapath: &Datapath) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("for all to read");
    let doctor = datapath.command(&["doctor"]);
    let arguments: Vec<_> = doctor.get_args().skip(1).collect();
    let program = dir.path().join("datapath");
    fs::copy(arguments[0], &program).expect("the program");
    let mut nobody = lab.host.command("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    let output = nobody.arg(program).args(&arguments[1..]).output();
    let output = output.expect("setpriv");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    eprintln!("$ datapath doctor # as nobody\n{said}");
    said
}

fn checks(todo: &[(String, String)]) -> Vec<&str> {
    todo.iter().map(|(check, _)| check.as_str()).collect()
}

#[test]
fn a_host_moves_over_as_doctor_says_and_back() {
    let mut lab = DockerLab::stock();
    lab.docker.run("web", &["-p", "8080:80"], &[]);
    wait_until("the port", || fetches(&lab, 8080));
    let file = lab.docker.configuration();
    let original = fs::read_to_string(&file).expect("the engine's configuration");

    let mut datapath = Datapath::following(&lab, "");
    datapath.kill();
    run(&mut datapath.command(&["detach"]));
    let before = todo(&datapath);
    assert_eq!(checks(&before[..3]), ["daemon-json", "service", "proxies"]);
    assert!(
        before[3..].iter().all(|(check, _)| check == "rules"),
        "{before:?}"
    );
    assert!(before.len() >= 5, "{before:?}");

    // As somebody who may see little.
    let said = as_nobody(&lab, &datapath);
    assert!(said.contains("????"), "{said}");

    // 1. What daemon.json has to say.
    let shown = run(&mut datapath.command(&["docker-config"]));
    eprintln!(
        "$ datapath docker-config\n{}",
        String::from_utf8_lossy(&shown.stdout)
    );
    assert_eq!(fs::read_to_string(&file).expect("the file"), original);
    let applied = run(&mut datapath.command(&["docker-config", "--apply"]));
    eprintln!(
        "$ datapath docker-config --apply\n{}",
        String::from_utf8_lossy(&applied.stdout)
    );
    let written: Value =
        serde_json::from_str(&fs::read_to_string(&file).expect("the file")).expect("JSON");
    for flag in ["iptables", "ip6tables", "userland-proxy"] {
        assert_eq!(written[flag], false);
    }
    assert!(
        written["deprecated-key-path"].is_string(),
        "what was there is lost"
    );

    // 2. The service, beside an engine that still does all itself.
    datapath.restart();
    assert!(serves(&lab, 8080));
    let during = todo(&datapath);
    assert_eq!(checks(&during[..2]), ["engine", "proxies"], "{during:?}");

    // 3. Docker, when it suits.
    lab.docker.end("TERM");
    lab.docker.start();
    lab.docker.ask(&["start", "web"]);
    let mut after = Vec::new();
    wait_until("only what the engine left is to be done", || {
        after = todo(&datapath);
        // Until the service follows the engine again, it says so.
        !after.is_empty() && after.iter().all(|(check, _)| check == "rules")
    });

    // 4. What it left.
    for (_, remedy) in &after {
        let command = remedy.split('`').nth(1).expect("a command");
        run(lab.host.command("sh").args(["-c", command]));
    }
    wait_until("nothing is left to do", || todo(&datapath).is_empty());
    wait_until("the port", || fetches(&lab, 8080));
    wait_until("packets go past the stack", || {
        let status = run(&mut datapath.command(&["status"])).stdout;
        String::from_utf8_lossy(&status).contains("IPv4 fast")
    });
    assert_eq!(todo(&datapath), []);

    // And back.
    let undone = run(&mut datapath.command(&["docker-config", "--undo"]));
    eprintln!(
        "$ datapath docker-config --undo\n{}",
        String::from_utf8_lossy(&undone.stdout)
    );
    assert_eq!(fs::read_to_string(&file).expect("the file"), original);
}
