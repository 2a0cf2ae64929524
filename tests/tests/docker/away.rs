//! The engine goes away, and comes back.

use datapath_tests::lab::{Datapath, DockerLab, run, wait_until};
use serde_json::Value;

use crate::published::{fetches, serves};

fn problems(datapath: &Datapath) -> Vec<String> {
    let status = run(&mut datapath.command(&["status", "--json"])).stdout;
    let status: Value = serde_json::from_slice(&status).expect("JSON");
    let problems = status["service"]["problems"].as_array().cloned();
    let lines = problems.unwrap_or_default().into_iter();
    lines
        .filter_map(|line| line.as_str().map(str::to_owned))
        .collect()
}

/// Kills the engine, and starts another on what it left.
fn killed(flags: &[&str], survives: bool) {
    let mut lab = DockerLab::with_flags(flags);
    let datapath = Datapath::following(&lab, "");
    // Their server does not mind SIGTERM, and the engine that comes back waits that long for each that it ends.
    let web = ["-p", "8080:80", "--stop-timeout", "1"];
    lab.docker.run("web", &web, &[]);
    let again = [
        "-p",
        "8081:80",
        "--stop-timeout",
        "1",
        "--restart",
        "always",
    ];
    lab.docker.run("again", &again, &[]);
    for port in [8080, 8081] {
        wait_until("the port", || fetches(&lab, port));
    }
    lab.docker.end("KILL");
    wait_until("its absence is said", || {
        problems(&datapath)
            .iter()
            .any(|problem| problem.contains("docker"))
    });
    for _ in 0..20 {
        assert!(
            serves(&lab, 8080) && serves(&lab, 8081),
            "a connection failed without the engine"
        );
    }
    lab.docker.start();
    wait_until("it is followed again", || problems(&datapath).is_empty());
    wait_until("what restarts answers", || fetches(&lab, 8081));
    let mut listed = lab
        .docker
        .ask(&["ps", "--format", "{{.Names}}"])
        .lines()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    listed.sort_unstable();
    assert_eq!(listed.contains(&"web".to_owned()), survives, "{listed:?}");
    wait_until("the ports are those of its listing", || {
        fetches(&lab, 8080) == survives
    });
    lab.docker.run("more", &["-p", "8082:80"], &[]);
    wait_until("a new port", || fetches(&lab, 8082));
    lab.docker.stop("again");
    wait_until("a port closes", || !fetches(&lab, 8081));
}

#[test]
fn an_engine_that_is_killed_and_takes_its_containers_along_when_it_comes_back() {
    killed(&[], false);
}

#[test]
fn an_engine_that_is_killed_and_restores_its_containers() {
    killed(&["--live-restore"], true);
}
