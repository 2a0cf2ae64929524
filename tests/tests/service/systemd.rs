//! What the service tells systemd, and the files that systemd reads.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use datapath_tests::lab::{Datapath, Lab, run};

/// What the service says next, `WATCHDOG=1` left out.
fn heard(socket: &UnixDatagram, watchdogs: &mut u32) -> String {
    loop {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("a word of the service's");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if !text.contains("WATCHDOG=1") {
            return text;
        }
        *watchdogs += 1;
    }
}

#[test]
fn systemd_hears_of_every_turn() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, "");
    datapath.kill();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut service = datapath
        .command(&["run"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "300000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let signal = |name: &str| run(Command::new("kill").args([name, &service.id().to_string()]));
    let mut watchdogs = 0;
    assert!(heard(&socket, &mut watchdogs).contains("READY=1"));
    std::thread::sleep(Duration::from_secs(1));
    let publish = "[[publish]]\nlisten = \"0.0.0.0:9000\"\nto = \"172.17.0.2:80\"\n[docker]";
    datapath.edit("[docker]", publish);
    signal("-HUP");
    let reloading = heard(&socket, &mut watchdogs);
    assert!(
        reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="),
        "{reloading}"
    );
    assert!(heard(&socket, &mut watchdogs).contains("READY=1"));
    // What was read is in force by now.
    let ports = datapath.cli(&["ports", "--json"]).stdout;
    assert!(String::from_utf8_lossy(&ports).contains("\"port\": 9000"));
    assert!((5..=20).contains(&watchdogs), "{watchdogs} in a second");
    signal("-TERM");
    assert!(heard(&socket, &mut watchdogs).contains("STOPPING=1"));
    assert!(service.wait().unwrap().success());
}

const UNIT: &str = include_str!("../../../dist/datapath.service");

/// What the unit says for a key, every line of it.
pub(crate) fn said(key: &str) -> Vec<&'static str> {
    let lines: Vec<_> = UNIT
        .lines()
        .filter_map(|line| line.strip_prefix(key))
        .collect();
    assert!(!lines.is_empty(), "the unit says nothing of {key}");
    lines
}

/// `setpriv`, with the unit's bounding set less one capability, and its `NoNewPrivileges=`.
pub(crate) fn as_bounded(lab: &Lab, without: &str) -> Command {
    let wanted = said("CapabilityBoundingSet=")[0];
    let bounding = wanted
        .split(' ')
        .filter(|cap| *cap != without)
        .fold("-all".to_owned(), |all, cap| {
            format!("{all},+{}", cap.trim_start_matches("CAP_").to_lowercase())
        });
    let mut command = lab.host.command("setpriv");
    command.args(["--no-new-privs", "--bounding-set", &bounding]);
    command
}

/// A group of system calls, or one, as systemd means it.
fn expand(name: &str, calls: &mut BTreeSet<String>) {
    if !name.starts_with('@') {
        calls.insert(name.to_owned());
        return;
    }
    let shown = run(Command::new("systemd-analyze").args(["syscall-filter", name]));
    for line in String::from_utf8_lossy(&shown.stdout).lines().skip(1) {
        match line.trim() {
            comment if comment.starts_with('#') || comment.is_empty() => {}
            inner => expand(inner, calls),
        }
    }
}

/// The system calls that the unit allows.
pub(crate) fn allowed() -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in said("SystemCallFilter=") {
        let mut named = BTreeSet::new();
        let names = line.trim_start_matches('~');
        names.split(' ').for_each(|name| expand(name, &mut named));
        if line.starts_with('~') {
            allowed.retain(|call| !named.contains(call));
        } else {
            allowed.extend(named);
        }
    }
    // systemd allows it whatever the filter says: it is how the service is started.
    allowed.insert("execve".to_owned());
    allowed
}

#[test]
fn the_units_capabilities_and_system_calls_are_enough() {
    let lab = Lab::new();
    let metrics = "[metrics]\nlisten = \"127.0.0.1:9464\"\n";
    let mut datapath = Datapath::start(&lab, metrics);
    // From nothing: everything is loaded, pinned and attached with these alone.
    datapath.kill();
    assert!(datapath.cli(&["detach"]).status.success());
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let ordinary = datapath.command(&["run"]);
    let bounded = as_bounded(&lab, "");
    let mut strace = lab.host.command("strace");
    strace.args(["-f", "-qq", "-o"]).arg(&trace);
    // Both begin with nsenter and the namespace.
    strace.arg("setpriv").args(bounded.get_args().skip(2));
    strace.args(ordinary.get_args().skip(1));
    let mut service = strace.stderr(Stdio::null()).spawn().unwrap();
    let waited = datapath.cli(&["status", "--json", "--wait", "30"]);
    let published = datapath.cli(&["publish", "9000:80", "--to", "172.17.0.2"]);
    let scraped = lab
        .host
        .command("curl")
        .args(["-sf", "--max-time", "10", "http://127.0.0.1:9464/metrics"])
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&waited.stdout).unwrap();
    let pid = status["service"]["pid"].to_string();
    let held: Vec<_> = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .flatten()
        .map(|task| fs::read_to_string(task.path().join("status")).unwrap_or_default())
        .collect();
    for name in ["-HUP", "-TERM"] {
        run(Command::new("kill").args([name, &pid]));
        // What a reload does is to be seen too: the next answer comes after it.
        drop(datapath.cli(&["status", "--json"]));
    }
    assert!(service.wait().unwrap().success());
    assert!(published.status.success(), "{published:?}");
    assert!(scraped.status.success(), "{scraped:?}");

    // Every thread has given up all but CAP_NET_ADMIN (12).
    assert!(held.len() > 1, "{held:?}");
    for task in &held {
        for line in [
            "CapPrm:\t0000000000001000",
            "CapEff:\t0000000000001000",
            "CapInh:\t0000000000000000",
            "NoNewPrivs:\t1",
        ] {
            assert!(task.contains(line), "{line} is not in {task}");
        }
    }
    let allowed = allowed();
    assert!(
        allowed.len() > 200 && !allowed.contains("setuid"),
        "{allowed:?}"
    );
    let trace = fs::read_to_string(&trace).unwrap();
    let mut made = BTreeSet::new();
    for line in trace.lines() {
        let call = line
            .split_once(' ')
            .map_or("", |(_, rest)| rest.trim_start());
        if let Some((name, _)) = call.split_once('(')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            made.insert(name.to_owned());
        }
    }
    assert!(made.contains("bpf") && made.len() > 30, "{made:?}");
    let refused: Vec<_> = made.difference(&allowed).collect();
    assert!(refused.is_empty(), "the unit does not allow {refused:?}");
}

#[test]
fn a_missing_capability_is_named() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, "");
    datapath.kill();
    assert!(datapath.cli(&["detach"]).status.success());
    for missing in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"] {
        let output = as_bounded(&lab, missing)
            .args(datapath.command(&["run"]).get_args().skip(1))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with(&format!("datapath: error: missing {missing}: ")),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!datapath.pins().exists(), "nothing was pinned");
    }
}

#[test]
fn systemd_finds_little_to_complain_of() {
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("datapath.service");
    // It is judged whether or not it is installed here.
    fs::write(&unit, UNIT.replace("/usr/bin/datapath", "/bin/true")).unwrap();
    let judged = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--no-pager", "--threshold=20"])
        .arg(&unit)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&judged.stdout).into_owned();
    let overall = text
        .lines()
        .rfind(|line| line.contains("Overall exposure level"));
    println!("{overall:?}");
    assert!(judged.status.success() && overall.is_some(), "{judged:?}");
}

#[test]
fn the_sample_configuration_is_a_good_one() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/datapath.toml");
    let text = fs::read_to_string(&sample).unwrap();
    // As it is, and with every key that it shows: what is said to be the default has to be one.
    let shown: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") || rest.starts_with('[') => format!("{rest}\n"),
            _ if line.starts_with('[') => format!("{line}\n"),
            _ => String::new(),
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shown.toml");
    fs::write(&file, shown).unwrap();
    for path in [&sample, &file] {
        datapath_user::config::Config::load(path).unwrap_or_else(|error| panic!("{error}"));
    }
}
