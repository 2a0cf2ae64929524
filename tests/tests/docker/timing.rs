//! How soon a published port answers after `docker run` has returned, and how soon it is closed after `docker stop`.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use datapath_tests::lab::{Datapath, DockerLab, PATIENCE};

/// How many containers are started and stopped.
const ROUNDS: usize = 15;
/// On a machine that does other things too; what is promised is 50 ms and 250 ms.
const MEDIAN: Duration = Duration::from_millis(500);
const WORST: Duration = Duration::from_secs(5);

#[test]
fn ports_open_and_close_with_their_containers() {
    let lab = DockerLab::new();
    let _datapath = Datapath::following(&lab, "");
    let (mut opened, mut closed) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = format!("web{round}");
        lab.docker.run(&name, &["-p", "8080:80"], &[]);
        opened.push(until(&lab, true));
        lab.docker.stop(&name);
        closed.push(until(&lab, false));
    }
    for (what, times) in [("opened", &mut opened), ("closed", &mut closed)] {
        times.sort_unstable();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        eprintln!("{what}: median {median:?}, worst of {ROUNDS} {worst:?}");
        assert!(median < MEDIAN && worst < WORST, "{what}: {times:?}");
    }
}

/// How long it takes until the port answers, or until it does not.
fn until(lab: &DockerLab, open: bool) -> Duration {
    lab.lan.enter(move || {
        let start = Instant::now();
        while answers() != open {
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain for open: {open}"
            );
        }
        start.elapsed()
    })
}

/// Tries once, and not for long: where the port is not published the engine's own listener takes the connection, and
/// never answers.
fn answers() -> bool {
    const SHORT: Duration = Duration::from_millis(10);
    let ask = || -> std::io::Result<bool> {
        let to = SocketAddr::from(([203, 0, 113, 2], 8080));
        let mut stream = TcpStream::connect_timeout(&to, SHORT)?;
        stream.set_read_timeout(Some(SHORT))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut first = [0; 16];
        Ok(stream.read(&mut first)? > 0)
    };
    ask().unwrap_or(false)
}
