//! What the service tells systemd, and the files that systemd reads.

use std::{
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
    signal("-HUP");
    let reloading = heard(&socket, &mut watchdogs);
    assert!(
        reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="),
        "{reloading}"
    );
    assert!(heard(&socket, &mut watchdogs).contains("READY=1"));
    assert!((5..=20).contains(&watchdogs), "{watchdogs} in a second");
    signal("-TERM");
    assert!(heard(&socket, &mut watchdogs).contains("STOPPING=1"));
    assert!(service.wait().unwrap().success());
}

#[test]
fn the_units_capabilities_are_enough() {
    let unit = include_str!("../../../dist/datapath.service");
    let wanted = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .expect("the unit bounds them");
    let bounding = wanted.split(' ').fold("-all".to_owned(), |all, cap| {
        format!("{all},+{}", cap.trim_start_matches("CAP_").to_lowercase())
    });
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, "");
    // From nothing: everything is loaded, pinned and attached with these alone.
    datapath.kill();
    assert!(datapath.cli(&["detach"]).status.success());
    let ordinary = datapath.command(&["run"]);
    let mut service = lab
        .host
        .command("setpriv")
        .args(["--bounding-set", &bounding])
        .args(ordinary.get_args().skip(1))
        .spawn()
        .unwrap();
    let waited = datapath.cli(&["status", "--wait", "10"]);
    let published = datapath.cli(&["publish", "9000:80", "--to", "172.17.0.2"]);
    run(Command::new("kill").arg(service.id().to_string()));
    assert!(service.wait().unwrap().success());
    assert!(waited.status.success(), "{waited:?}");
    assert!(published.status.success(), "{published:?}");
}

#[test]
fn the_sample_configuration_is_a_good_one() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/datapath.toml");
    let text = fs::read_to_string(&sample).unwrap();
    // As it is, and with every key that it shows: what is said to be the default has to be one.
    let shown: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") || rest.starts_with("[[") => format!("{rest}\n"),
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
