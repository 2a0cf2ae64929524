//! The unit's walls, put up around a real service: what systemd makes of its settings with seccomp, its capabilities,
//! and no new privileges. Inside them the service lives its whole life.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    os::unix::fs::chown,
    process::{Child, Command, Output},
};

use datapath_tests::lab::{
    Datapath, Lab, PORTS, run, tcp_echo, tcp_exchange, wait_for, wait_until,
};
use nix::{
    errno::Errno,
    libc,
    sched::{CloneFlags, unshare},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};
use serde_json::Value;
use syscalls::Sysno;

use crate::{
    HEALED,
    systemd::{allowed, as_bounded, said},
};

/// System calls, and of each the arguments that a filter is about; none where it is about every call.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// A rule that holds where all of these are so: (argument, what it is, value).
fn when(all: &[(u8, Is, u64)]) -> SeccompRule {
    let conditions = all.iter().map(|(argument, is, value)| {
        SeccompCondition::new(*argument, Length::Dword, is.clone(), *value).unwrap()
    });
    SeccompRule::new(conditions.collect()).unwrap()
}

/// A rule for an argument that has all of these bits.
fn has(argument: u8, bits: u64) -> SeccompRule {
    when(&[(argument, Is::MaskedEq(bits), bits)])
}

fn compiled(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> BpfProgram {
    let native = env::consts::ARCH.try_into().unwrap();
    // Another architecture's calls end the process: `SystemCallArchitectures=native`.
    let filter = SeccompFilter::new(rules, otherwise, matched, native).unwrap();
    filter.try_into().unwrap()
}

fn refused(rules: Rules, error: Errno) -> BpfProgram {
    let error = SeccompAction::Errno(error as u32);
    compiled(rules, SeccompAction::Allow, error)
}

/// The filters that systemd makes of the unit (src/shared/seccomp-util.c), the list of system calls last: it does not
/// let another one be put up. `less` is taken out of that list.
fn walls(less: &str) -> Vec<BpfProgram> {
    for (key, value) in [
        ("RestrictNamespaces=", "yes"),
        ("RestrictRealtime=", "yes"),
        ("RestrictSUIDSGID=", "yes"),
        ("LockPersonality=", "yes"),
        ("MemoryDenyWriteExecute=", "yes"),
        ("NoNewPrivileges=", "yes"),
        ("SystemCallErrorNumber=", "EPERM"),
        (
            "RestrictAddressFamilies=",
            "AF_UNIX AF_NETLINK AF_INET AF_INET6",
        ),
    ] {
        assert_eq!(said(key), [value], "{key}: this test builds another wall");
    }
    let families = [
        libc::AF_UNIX,
        libc::AF_NETLINK,
        libc::AF_INET,
        libc::AF_INET6,
    ];
    let other = families.map(|family| (0, Is::Ne, family as u64));
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    let set_ids = |argument| vec![has(argument, 0o4000), has(argument, 0o2000)];
    let realtime = [libc::SCHED_FIFO, libc::SCHED_RR, libc::SCHED_DEADLINE];
    let executable = libc::PROT_EXEC as u64;
    let denied: Rules = [
        (libc::SYS_unshare, vec![]),
        (libc::SYS_setns, vec![]),
        (
            libc::SYS_clone,
            namespaces
                .map(|flag| has(0, u64::from(flag.cast_unsigned())))
                .to_vec(),
        ),
        (
            libc::SYS_sched_setscheduler,
            realtime
                .map(|policy| when(&[(1, Is::Eq, policy as u64)]))
                .to_vec(),
        ),
        (libc::SYS_chmod, set_ids(1)),
        (libc::SYS_fchmod, set_ids(1)),
        (libc::SYS_fchmodat, set_ids(2)),
        (libc::SYS_mkdir, set_ids(1)),
        (libc::SYS_mkdirat, set_ids(2)),
        (
            libc::SYS_personality,
            vec![when(&[(0, Is::Ne, 0), (0, Is::Ne, 0xffff_ffff)])],
        ),
        (
            libc::SYS_mmap,
            vec![has(2, executable | libc::PROT_WRITE as u64)],
        ),
        (libc::SYS_mprotect, vec![has(2, executable)]),
        (libc::SYS_pkey_mprotect, vec![has(2, executable)]),
        (libc::SYS_shmat, vec![has(2, libc::SHM_EXEC as u64)]),
    ]
    .into();
    // Its flags lie in memory, where no filter sees them: whoever calls it has to do with clone(2).
    let hidden = [libc::SYS_clone3, libc::SYS_openat2, libc::SYS_fchmodat2];
    let listed = allowed();
    let numbers = listed
        .iter()
        .filter(|name| *name != less)
        // Those of other architectures have no number here.
        .filter_map(|name| Some((name.parse::<Sysno>().ok()?.id().into(), vec![])));
    vec![
        refused(
            [(libc::SYS_socket, vec![when(&other)])].into(),
            Errno::EAFNOSUPPORT,
        ),
        refused(denied, Errno::EPERM),
        refused(hidden.map(|call| (call, vec![])).into(), Errno::ENOSYS),
        compiled(
            numbers.collect(),
            SeccompAction::Errno(Errno::EPERM as u32),
            SeccompAction::Allow,
        ),
    ]
}

/// Starts the service inside, with the unit's bounding set.
fn inside(lab: &Lab, datapath: &Datapath, walls: &[BpfProgram], log: &File) -> Child {
    let (bounded, ordinary) = (as_bounded(lab, ""), datapath.command(&["run"]));
    let log = log.try_clone().unwrap();
    // Filters are a thread's, and its children's: this one ends with them.
    lab.host.enter(|| {
        walls.iter().for_each(|wall| apply_filter(wall).unwrap());
        assert_eq!(unshare(CloneFlags::CLONE_NEWUTS), Err(Errno::EPERM));
        let packets = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::empty(),
            None,
        );
        assert_eq!(packets.err(), Some(Errno::EAFNOSUPPORT));
        let owner = chown("/dev/null", Some(0), None).unwrap_err();
        assert_eq!(owner.raw_os_error(), Some(libc::EPERM));
        // Both begin with nsenter, its namespace, and here the program's name.
        Command::new("setpriv")
            .args(bounded.get_args().skip(2))
            .args(ordinary.get_args().skip(1))
            .stderr(log)
            .spawn()
            .unwrap()
    })
}

fn status(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn the_service_lives_inside_the_units_walls() {
    let lab = Lab::new();
    lab.add_ipv6();
    tcp_echo(&lab.container, "0.0.0.0:80");
    let metrics = "[metrics]\nlisten = \"127.0.0.1:9464\"\n";
    let mut datapath =
        Datapath::start_with(&lab, "xdp = \"generic\"", &format!("{PORTS}{metrics}"));
    // From nothing: everything is loaded, pinned and attached inside.
    datapath.kill();
    assert!(datapath.cli(&["detach"]).status.success());
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("log");
    let log = File::create(&said).unwrap();
    let walls = walls("");
    // The second one adopts what the first one left.
    for (published, place) in [("9000", "172.17.0.8/16"), ("9001", "172.17.0.9/16")] {
        let mut service = inside(&lab, &datapath, &walls, &log);
        let pid = service.id().to_string();
        let now = || status(&datapath.cli(&["status", "--json", "--wait", "30"]));
        wait_for(HEALED, "it serves", || {
            now()["service"]["pid"] == service.id()
        });
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
            let task = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let walled = task.contains("Seccomp:\t2\nSeccomp_filters:\t4\n");
            assert!(walled || task.is_empty(), "{task}");
        }
        let more = format!("{published}:80");
        run(&mut datapath.command(&["publish", &more, "--to", "172.17.0.2"]));
        for port in ["8080", published] {
            let to = format!("203.0.113.2:{port}");
            assert_eq!(tcp_exchange(&lab.lan, &to, vec![7; 9]).unwrap(), [7; 9]);
        }
        run(lab.host.command("curl").args([
            "-sf",
            "--max-time",
            "10",
            "http://127.0.0.1:9464/metrics",
        ]));
        // A newcomer's port gets a program, with what the service has kept.
        let name = format!("n{published}");
        let _newcomer = lab.add_container(&name, "docker0", &[place], &["172.17.0.1"]);
        let port = format!("veth_ingress on v{name}");
        wait_until("a program at the newcomer's port", || {
            let shown = datapath.cli(&["status"]).stdout;
            String::from_utf8_lossy(&shown).contains(&port)
        });
        // It reads its file again, and compares all that it holds.
        let read = || {
            let said = fs::read_to_string(&said).unwrap();
            said.matches("the configuration was read again").count()
        };
        let times = read();
        let before = now()["service"]["reconciliations"].as_u64().unwrap();
        run(Command::new("kill").args(["-HUP", &pid]));
        wait_until("it reads its file again", || read() > times);
        wait_until("it compares again", || {
            now()["service"]["reconciliations"].as_u64().unwrap() > before
        });
        let now = now();
        assert_eq!(now["service"]["problems"], Value::Array(vec![]), "{now:#}");
        assert_eq!(now["service"]["reconcile_errors"], 0, "{now:#}");
        assert_eq!(now["service"]["xdp"][0]["mode"], "generic", "{now:#}");
        run(Command::new("kill").arg(&pid));
        assert!(service.wait().unwrap().success());
    }
    let said = fs::read_to_string(&said).unwrap();
    println!("{said}");
    assert_eq!(
        said.matches("the configuration was read again").count(),
        2,
        "{said}"
    );
    for word in ["ERROR", "WARN", "not permitted", "panicked"] {
        assert!(!said.contains(word), "{word}: {said}");
    }
}

/// What shows that the walls stand: with a smaller gate nothing comes through.
#[test]
fn a_filter_without_bpf_is_felt() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, "");
    datapath.kill();
    assert!(datapath.cli(&["detach"]).status.success());
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("log");
    let mut service = inside(
        &lab,
        &datapath,
        &walls("bpf"),
        &File::create(&said).unwrap(),
    );
    assert_eq!(service.wait().unwrap().code(), Some(1));
    let said = fs::read_to_string(&said).unwrap();
    assert!(
        said.contains("error") && said.contains("not permitted"),
        "{said}"
    );
}
