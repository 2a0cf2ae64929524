//! The engine itself: whether it speaks to us, and what it runs with.

use std::{fs, os::unix::fs::MetadataExt as _};

use super::super::{Found, Subject, fine, note, todo};
use crate::docker_config;

pub(super) fn look(subject: &Subject) -> Found {
    let socket = subject.config.docker.socket.display();
    let mut found = Found::new();
    match &subject.docker {
        None if subject.config.docker.enabled == Some(false) => {
            return vec![note("Docker is not followed: `[docker] enabled = false`")];
        }
        None => {
            return vec![note(format!(
                "no engine at {socket}; it is followed from when it is there"
            ))];
        }
        Some(Err(error)) => found.push(todo(
            format!("docker.socket: {socket}: {error}"),
            "start the engine, or name its socket in the configuration",
        )),
        Some(Ok(seen)) => {
            found.push(fine(format!(
                "Docker {} speaks version {} of its API",
                seen.engine, seen.api
            )));
            if seen.swarm {
                found.push(note(
                    "this host is in a swarm: ports of services that are published with mode=host work as others do; \
                     those of the ingress mesh are left to Docker, which needs its own iptables rules for them",
                ));
            }
            for problem in &seen.snapshot.problems {
                found.push(note(problem.clone()));
            }
        }
    }
    let path = docker_config::path();
    let changed = fs::metadata(&path).map_or(0, |file| file.mtime());
    for engine in &subject.engines {
        let said =
            docker_config::lacking(&path, &subject.engines).is_ok_and(|lacking| lacking.is_empty());
        if said && started(engine.pid).is_some_and(|started| started < changed) {
            let keeps = matches!(&subject.docker, Some(Ok(seen)) if seen.live_restore);
            found.push(todo(
                format!(
                    "dockerd (process {}) runs since before {} was changed",
                    engine.pid,
                    path.display()
                ),
                if keeps {
                    "`systemctl restart docker`, when it suits; with live-restore, the containers go on"
                } else {
                    "`systemctl restart docker`, when it suits: it stops the containers, and starts again those that \
                     have a restart policy"
                },
            ));
        }
    }
    found
}

/// When a process started, in seconds of the calendar.
fn started(pid: u32) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may have blanks and brackets, the third field is the first; the start is the 22nd.
    let ticks: i64 = stat
        .rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    let second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    Some(boot.trim().parse::<i64>().ok()? + ticks / second)
}
