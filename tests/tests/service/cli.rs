//! The command line's promises: exit statuses, documented JSON, quiet ends, generated help.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
};

use datapath_tests::lab::{Datapath, Lab};
use serde_json::Value;

use crate::talk::{self, Talk};

const PORTS: &str = "[[publish]]\nlisten = \"0.0.0.0:8080\"\nto = \"172.17.0.2:80\"\n";

/// Every key in a value, however deep.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    if let Some(object) = value.as_object() {
        found.extend(object.keys().cloned());
        object.values().for_each(|inner| keys(inner, found));
    }
    value
        .as_array()
        .into_iter()
        .flatten()
        .for_each(|inner| keys(inner, found));
}

#[test]
fn every_field_of_json_is_documented() {
    const DOCUMENTED: &str = concat!(
        include_str!("../../../docs/cli-json.md"),
        include_str!("../../../docs/api.md")
    );
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let _talk = Talk::open(&lab.lan, "203.0.113.2:8080").unwrap();
    let question = &["explain", "tcp", "203.0.113.9", "203.0.113.2:8080"][..];
    for command in [
        &["status"][..],
        &["ports"],
        &["flows"],
        &["stats"],
        question,
    ] {
        let output = datapath.cli(&[command, &["--json"]].concat());
        let command = command[0];
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{command}: {error}"));
        let mut found = BTreeSet::new();
        keys(&json, &mut found);
        assert!(found.len() > 2, "{command}: {found:?}");
        for key in found {
            assert!(
                DOCUMENTED.contains(&format!("`{key}`")),
                "{command}: {key} is not documented"
            );
        }
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, PORTS);
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["ports"],
        &["ports", "--json"],
        &["flows", "--json"],
        &["stats"],
        &["completions", "bash"],
    ] {
        let mut command = datapath.command(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(
            (
                ended.status.code(),
                String::from_utf8_lossy(&ended.stderr).as_ref()
            ),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn statuses_and_errors_of_one_line() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, "");
    for (arguments, status, part) in [
        (&["ports"][..], 0, ""),
        (&["nonsense"], 2, "nonsense"),
        (&["publish", "0:80", "--to", "172.17.0.2"], 2, "0"),
        (&["publish", "80:65536", "--to", "172.17.0.2"], 2, "65536"),
        (&["unpublish", "4711"], 1, "0.0.0.0:4711/tcp: not published"),
        (&["publish", "7000:80", "--to", "fd00:17::2"], 0, ""),
        (&["unpublish", "7000"], 1, "but [::]:7000/tcp is"),
        (
            &["explain", "tcp", "203.0.113.9", "203.0.113.2"],
            2,
            "which port?",
        ),
        (
            &["monitor", "--interface", "nope"],
            1,
            "nope: there is no such interface",
        ),
        (
            &["--pin-dir", "/sys/fs/bpf/dpnone", "flows"],
            1,
            "/sys/fs/bpf/dpnone: no datapath is pinned here",
        ),
        (
            &["--api-socket", "/nowhere/a", "unpublish", "1"],
            1,
            "/nowhere/a: no service answers",
        ),
    ] {
        let output = datapath.cli(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
        assert!(
            !said.contains('\u{1b}'),
            "colours without a terminal: {said:?}"
        );
        if status == 1 {
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
    datapath.kill();
    let output = datapath.cli(&["status"]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "active without a service: {output:?}"
    );
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("service: not running"), "{said}");
}

/// A service that hangs is no reason to hang: what the maps say is said all the same.
#[test]
fn a_service_that_hangs_is_told_from_none() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "");
    datapath.frozen(|| {
        let output = datapath.cli(&["status"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        assert!(said.contains("uplink_ingress on eth0"), "{said}");
        assert!(said.contains("no answer within 5 s"), "{said}");
        let json: Value =
            serde_json::from_slice(&datapath.cli(&["status", "--json"]).stdout).unwrap();
        assert_eq!(json["active"], true, "{json}");
        assert_eq!(json["service"], Value::Null, "{json}");
    });
}

/// Who may see neither pins nor socket is told so, and not that nothing runs.
#[test]
fn who_may_not_look_is_told_so() {
    // The program is opened before the user changes: where it lies may not be everybody's.
    const NOBODY: &str = "exec 9<\"$0\"; exec setpriv --reuid=65534 --regid=65534 --clear-groups /proc/self/fd/9 \"$@\"";
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "");
    let ordinary = datapath.command(&[]);
    let program = ordinary.get_args().nth(1).unwrap();
    let nobodys = |arguments: &[&str]| {
        Command::new("sh")
            .args(["-c", NOBODY])
            .arg(program)
            .arg("--pin-dir")
            .arg(datapath.pins())
            .arg("--api-socket")
            .arg(datapath.api_socket())
            .args(arguments)
            .output()
            .unwrap()
    };
    for (arguments, part) in [
        (&["status"][..], "not readable; run as root"),
        (&["status", "--json"], "not readable; run as root"),
        (&["ports"], "not readable; run as root"),
        (&["unpublish", "80"], "may not be opened; run as root"),
        (&["detach"], "run as root"),
    ] {
        let output = nobodys(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        assert!(said.contains(part), "{arguments:?}: {said}");
        assert!(!said.contains("not active"), "{said}");
    }
    let status = nobodys(&["status", "--json"]).stdout;
    let status: Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["active"], Value::Null, "{status}");
    let doctor = nobodys(&["doctor", "--json"]).stdout;
    let doctor: Value = serde_json::from_slice(&doctor).unwrap();
    let findings = doctor["findings"].as_array().unwrap();
    for check in ["service", "way", "ports", "pins"] {
        let mut its = findings.iter().filter(|finding| finding["check"] == check);
        assert!(
            its.all(|finding| finding["state"] == "unknown"),
            "{check}: {doctor}"
        );
    }
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "");
    for shell in ["bash", "zsh", "fish"] {
        let script = datapath.cli(&["completions", shell]).stdout;
        let script = String::from_utf8_lossy(&script).into_owned();
        for word in ["publish", "flush", "monitor", "reply-src"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    assert!(datapath.cli(&["man", path]).status.success());
    for page in ["datapath.1", "datapath-flows.1", "datapath-publish.1"] {
        let text = std::fs::read_to_string(dir.path().join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
}

#[test]
fn a_bound_that_adopted_maps_do_not_have_is_a_problem_with_a_remedy() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, "[conntrack]\nmax_flows = 4096\n");
    let problems = |datapath: &Datapath| {
        let status: Value =
            serde_json::from_slice(&datapath.cli(&["status", "--json"]).stdout).unwrap();
        status["service"]["problems"].to_string()
    };
    assert_eq!(problems(&datapath), "[]");
    datapath.kill();
    datapath.edit("max_flows = 4096", "max_flows = 8192");
    datapath.restart();
    let said = problems(&datapath);
    assert!(
        said.contains("conntrack.max_flows: 8192: not in force"),
        "{said}"
    );
    assert!(said.contains("hold 4096; `datapath detach`"), "{said}");
}
