//! What the service needs of the machine and may not get: descriptors, memory, leave and room to write, bpffs.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use datapath_tests::lab::{Datapath, Lab, Passing, load, wait_for};

use crate::{
    HEALED, PUBLISHED, reaches, refused,
    talk::{self, Talk},
};

/// A host that was served until a moment ago, and a connection that has to live on whatever comes.
fn left_alone(config: &str) -> (Lab, Datapath, Talk) {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, config);
    talk::serve(&lab.container, "0.0.0.0:80");
    let held = Talk::open(&lab.lan, PUBLISHED).unwrap();
    datapath.kill();
    (lab, datapath, held)
}

/// A command of the program's that may have so many descriptors: at first, and at the most.
fn with_descriptors(datapath: &Datapath, limits: &str, arguments: &[&str]) -> Command {
    let ordinary = datapath.command(arguments);
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--nofile={limits}"))
        .arg(ordinary.get_program())
        .args(ordinary.get_args());
    command
}

#[test]
fn too_few_descriptors_are_one_clear_error() {
    let (lab, mut datapath, mut held) = left_alone(load::PORTS);
    for limit in (4..=16).chain([24, 48, 63, 64, 96, 128, 511]) {
        let limits = format!("{limit}:{limit}");
        let output = with_descriptors(&datapath, &limits, &["run"]).output();
        refused(&output.unwrap(), &["RLIMIT_NOFILE", "LimitNOFILE="]);
        for command in ["status", "ports", "flows", "stats", "doctor"] {
            let output = with_descriptors(&datapath, &limits, &[command]).output();
            let code = output.unwrap().status.code();
            // Either it worked, or it said why not.
            assert!(matches!(code, Some(0 | 1)), "{command}, {limit}: {code:?}");
        }
    }
    held.ask().unwrap();
    // It takes what it may have.
    let service = with_descriptors(&datapath, "64:512", &["run"])
        .stderr(Stdio::null())
        .spawn();
    let service = Passing::from(service.unwrap());
    wait_for(HEALED, "it serves", || datapath.serving().is_some());
    drop(service);
    datapath.restart();
    held.ask().unwrap();
    assert!(reaches(&lab));
}

#[test]
fn where_nothing_can_be_written_it_says_so_and_leaves_nothing_behind() {
    let (lab, mut datapath, mut held) = left_alone(load::PORTS);
    let sockets = datapath.api_socket();
    let sockets = sockets.parent().unwrap().display();
    let full = |dir: &str| {
        format!("mount -t tmpfs -o size=64k none {dir}; head -c 1M /dev/zero > {dir}/full || true")
    };
    let read_only = |dir: &str| format!("mount --bind {dir} {dir}; mount -o remount,bind,ro {dir}");
    // What is left there is shown, whatever the program says.
    let then = "status=0; \"$@\" || status=$?; ls -A /run; exit $status";
    for (script, words) in [
        (
            "mount -t tmpfs -o ro none /run".to_owned(),
            ["/run/datapath", "Read-only file system"],
        ),
        (full("/run"), ["/run/datapath", "No space left on device"]),
        (
            read_only(&sockets.to_string()),
            ["api_socket", "Read-only file system"],
        ),
        (
            read_only("/sys/fs/bpf"),
            ["pin_dir", "Read-only file system"],
        ),
    ] {
        let output = datapath
            .within(&format!("{script}\n{then}"), &["run"])
            .output();
        let output = output.unwrap();
        refused(&output, &words);
        let left = String::from_utf8_lossy(&output.stdout).into_owned();
        if script.contains(" /run") {
            assert!(!left.contains("datapath"), "{left}");
        }
        held.ask()
            .unwrap_or_else(|error| panic!("{script}: {error}"));
        assert!(reaches(&lab), "{script}");
    }
    // With nothing in the kernel yet: then nothing is there afterwards.
    assert!(datapath.cli(&["detach"]).status.success());
    let output = datapath
        .within(&format!("{}\n\"$@\"", read_only("/sys/fs/bpf")), &["run"])
        .output();
    refused(&output.unwrap(), &["pin_dir", "Read-only file system"]);
    assert!(!datapath.pins().exists());
    assert_eq!(lab.host.classifiers("eth0"), [""; 0]);
    datapath.restart();
    assert!(reaches(&lab));
}

#[test]
fn dockers_file_on_a_full_disk_is_the_old_one_whole() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "");
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "cd {}; mount -t tmpfs -o size=16k none .; cd \"$PWD\"; echo '{{\"debug\": true}}' > daemon.json
         head -c 1M /dev/zero > full || true
         status=0; \"$@\" --file daemon.json || status=$?; ls -A; cat daemon.json; exit $status",
        dir.path().display()
    );
    let output = datapath
        .within(&script, &["docker-config", "--apply"])
        .output()
        .unwrap();
    refused(&output, &["daemon.json", "No space left on device"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        shown.ends_with("daemon.json\nfull\n{\"debug\": true}\n"),
        "{shown}"
    );
}

#[test]
fn bpffs_is_mounted_where_it_is_missing() {
    let (lab, mut datapath, held) = left_alone(load::PORTS);
    drop(held);
    assert!(datapath.cli(&["detach"]).status.success());
    // In that namespace only: its bpffs goes with it, and everything that was pinned there.
    let script = "umount -l /sys/fs/bpf
        \"$@\" & service=$!
        status=0; \"$1\" \"$2\" \"$3\" status --wait 20 || status=$?
        kill $service; wait $service; exit $status";
    let output = datapath.within(script, &["run"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("uplink_ingress on eth0"), "{said}");
    assert!(!datapath.pins().exists());
    // Elsewhere nobody expects a mount.
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = dir.path().join("pins");
    let output = datapath.cli(&["--pin-dir", elsewhere.to_str().unwrap(), "run"]);
    refused(&output, &["pin_dir", "mount -t bpf bpf"]);
    assert!(!elsewhere.exists());
    datapath.restart();
    assert!(reaches(&lab));
}

/// In a container's time namespace the clock may be days away from the kernel's, which the flows are stamped by. (No
/// other clock is asked: a change of the date is no event at all.)
#[test]
fn a_clock_that_is_days_ahead_ends_no_flow() {
    let config = format!("{}\n[conntrack]\ngc_interval = \"1s\"\n", load::PORTS);
    let (lab, mut datapath, mut held) = left_alone(&config);
    let script = "exec unshare --time --monotonic 1000000 --fork --kill-child \"$@\"";
    let service = datapath
        .within(script, &["run"])
        .stderr(Stdio::null())
        .spawn();
    let service = Passing::from(service.unwrap());
    let mut process = None;
    wait_for(HEALED, "it serves", || {
        process = datapath.serving();
        process.is_some()
    });
    // Long enough for it to collect what it takes for dead, twice.
    std::thread::sleep(Duration::from_secs(3));
    held.ask().unwrap();
    assert!(reaches(&lab));
    drop(service);
    // It ends with its parent, a moment later, and answers no more before it has let go of its lock.
    wait_for(HEALED, "it is gone", || has_ended(process.unwrap()));
    datapath.restart();
    held.ask().unwrap();
}

/// Whether a process has given everything back, if not its number.
fn has_ended(process: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else {
        return true;
    };
    // Its files are shared by its threads, and the first of them may end before the others do.
    tasks.flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state stands behind the name, which is in parentheses.
        let state = stat.rsplit(')').next().map(str::trim_start);
        state.is_none_or(|state| state.is_empty() || state.starts_with(['Z', 'X']))
    })
}

/// A memory cgroup with a bound, which goes with the test. Its processes are gone by then.
struct Bounded(PathBuf);

impl Bounded {
    fn new(name: &str, bytes: u64) -> Self {
        let first = PathBuf::from("/sys/fs/cgroup/memory");
        let (first, bound) = if first.exists() {
            (first, "memory.limit_in_bytes")
        } else {
            let second = datapath_user::kernel::cgroup::root();
            (second.unwrap(), "memory.max")
        };
        let cgroup = Self(first.join(name));
        fs::create_dir(&cgroup.0).unwrap();
        fs::write(cgroup.0.join(bound), bytes.to_string()).expect("the memory controller");
        cgroup
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        // What was charged to it is given back a moment after its processes ended.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn maps_for_which_there_is_no_memory_are_refused_with_the_bound_to_lower() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, load::PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    datapath.kill();
    assert!(datapath.cli(&["detach"]).status.success());
    // Enough for the process and the other maps, and by far too little for those of so many flows.
    let cgroup = Bounded::new(&lab.name, 192 << 20);
    let many = "[conntrack]\nmax_flows = 8000000\n[[network]]";
    datapath.edit("[[network]]", many);
    let script = format!(
        "echo $$ > {}; exec \"$@\"",
        cgroup.0.join("cgroup.procs").display()
    );
    let output = datapath.within(&script, &["run"]).output().unwrap();
    refused(&output, &["conntrack.max_flows: 8000000", "MemoryMax="]);
    let left: Vec<_> = fs::read_dir(datapath.maps())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(lab.host.classifiers("eth0"), [""; 0]);
    datapath.edit(many, "[[network]]");
    datapath.restart();
    assert!(!datapath.log().contains("begins empty"));
    assert!(reaches(&lab));
}
