//! How soon a published port answers after `docker run` has returned, and how soon it is closed after `docker stop`.

use std::{
    fmt,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{DockerLab, PATIENCE};

/// How long one try waits for an answer. A closed port is found closed that much later at the most: where it is not
/// published the engine's own listener takes the connection, and never answers.
const SHORT: Duration = Duration::from_millis(10);

/// Measured times, the shortest first.
#[derive(Debug)]
pub struct Times(Vec<Duration>);

impl Times {
    /// The time within which that many of a hundred came.
    ///
    /// # Panics
    /// When nothing was measured.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank - 1]
    }

    /// The longest.
    #[must_use]
    pub fn worst(&self) -> Duration {
        self.percentile(100)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |percent| self.percentile(percent);
        write!(
            f,
            "median {:.1?}, 90 % within {:.1?}, 99 % within {:.1?}, worst of {} {:.1?}",
            at(50),
            at(90),
            at(99),
            self.0.len(),
            self.worst()
        )
    }
}

/// Starts and stops that many containers one after the other: how long it took until the port of each answered, and
/// until it answered no more.
#[must_use]
pub fn open_and_close(lab: &DockerLab, rounds: usize) -> [Times; 2] {
    let (mut opened, mut closed) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let name = format!("web{round}");
        lab.docker.run(&name, &["-p", "8080:80"], &[]);
        opened.push(until(lab, true));
        lab.docker.stop(&name);
        closed.push(until(lab, false));
        lab.docker.ask(&["rm", &name]);
    }
    [opened, closed].map(|mut times| {
        times.sort_unstable();
        Times(times)
    })
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

/// Tries once, and not for long.
fn answers() -> bool {
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
