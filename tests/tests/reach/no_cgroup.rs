//! A host without cgroup2: its own processes reach published ports by the stack, or not at all, and `status` says so.

use std::process::{Command, Stdio};

use datapath_tests::lab::{Datapath, Lab, PORTS, Passing, tcp_echo, tcp_exchange, wait_until};

#[test]
fn status_says_what_the_host_itself_cannot_reach() {
    let lab = Lab::new();
    tcp_echo(&lab.container, "172.17.0.2:80");
    let mut datapath = Datapath::start(&lab, PORTS);
    datapath.kill();
    assert!(datapath.cli(&["detach"]).status.success());

    // The same service, in a mount namespace of its own that has no cgroup2.
    let service = datapath.command(&["run"]);
    let script =
        "awk '$3 == \"cgroup2\" { print $2 }' /proc/mounts | xargs -r -n1 umount -l; exec \"$@\"";
    let _service = Passing::from(
        Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
                "sh",
            ])
            .arg(service.get_program())
            .args(service.get_args())
            .stdin(Stdio::null())
            .spawn()
            .expect("the service"),
    );
    let status = || {
        let output = datapath.cli(&["status"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    wait_until("it says so", || {
        let status = status();
        status.contains("problem: ") && status.contains("cgroup2")
    });
    assert!(!status().contains("host_connect4"), "{}", status());
    let answer = tcp_exchange(&lab.lan, "203.0.113.2:8080", b"x".to_vec());
    assert_eq!(answer.expect("everybody else reaches it"), b"x");
    assert!(tcp_exchange(&lab.host, "127.0.0.1:8080", b"x".to_vec()).is_err());
}
