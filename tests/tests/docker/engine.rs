//! The lab's engine itself.

use std::{fs, path::Path};

use datapath_tests::lab::{DockerLab, run, wait_until};

#[test]
fn the_engine_runs_containers_and_leaves_nothing() {
    let lab = DockerLab::new();
    lab.docker.run("web", &["-p", "8080:80"], &[]);
    assert_eq!(lab.docker.port("web", "80/tcp"), 8080);
    assert_eq!(
        lab.docker.address("web", "bridge").to_string(),
        "172.17.0.2"
    );
    let page = run(lab
        .docker
        .netns("web")
        .command("curl")
        .args(["-s", "http://127.0.0.1/"]));
    assert!(String::from_utf8_lossy(&page.stdout).contains("It works!"));
    assert_eq!(lab.docker.processes("docker-proxy"), 0);
    assert_eq!(lab.docker.processes("dockerd"), 1);
    let (name, socket) = (lab.name.clone(), lab.docker.socket());
    drop(lab);
    assert!(!socket.exists());
    for left in ["/run/netns", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let entries = fs::read_dir(Path::new(left))
            .into_iter()
            .flatten()
            .flatten();
        let found = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&name))
            .count();
        assert_eq!(found, 0, "{left}");
    }
    wait_until("no mount of the lab", || {
        !fs::read_to_string("/proc/mounts").unwrap().contains(&name)
    });
}
