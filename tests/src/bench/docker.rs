//! `docker run` with a thousand published ports: beside datapath, and with an engine as it is installed.

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use crate::lab::{Datapath, DockerLab, wait_for};

/// The host's first port, and the container's. At the last one a page is served.
const FIRST: u16 = 20_000;
const INSIDE: u16 = 1_000;
/// How long the engine may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// What it took.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Who publishes the ports.
    pub who: &'static str,
    /// How many ports.
    pub ports: u16,
    /// Until `docker run` returned.
    pub run: Duration,
    /// Until the last port answered, from the same moment on.
    pub answers: Duration,
    /// Until `docker rm -f` returned.
    pub remove: Duration,
    /// docker-proxy processes.
    pub processes: usize,
    /// Their memory and the service's, in KiB: shared pages are counted in shares.
    pub memory: u64,
    /// Rules of iptables and ip6tables.
    pub rules: usize,
}

/// Measures both.
#[must_use]
pub fn run(ports: u16, mut progress: impl FnMut(&str)) -> [Cost; 2] {
    progress("datapath");
    let lab = DockerLab::new();
    let datapath = Datapath::following(&lab, "");
    let own = measure("datapath", &lab, ports, Some(datapath.pid()));
    drop(datapath);
    drop(lab);
    progress("iptables and docker-proxy");
    let stock = measure("iptables + docker-proxy", &DockerLab::stock(), ports, None);
    [own, stock]
}

fn measure(who: &'static str, lab: &DockerLab, ports: u16, service: Option<u32>) -> Cost {
    let (last, served) = (FIRST + ports - 1, INSIDE + ports - 1);
    let map = format!("{FIRST}-{last}:{INSIDE}-{served}");
    let serve = format!("exec httpd -f -p {served} -h /www");
    let start = Instant::now();
    lab.docker.run("many", &["-p", &map], &["sh", "-c", &serve]);
    let run = start.elapsed();
    wait_for(PATIENCE, "the last port's page", || {
        let page = lab.lan.enter(move || page([203, 0, 113, 2], last));
        page.is_ok_and(|page| page.contains("It works!"))
    });
    let answers = start.elapsed();
    let proxies = lab.docker.pids("docker-proxy");
    let memory = proxies
        .iter()
        .chain(&service)
        .map(|pid| proportional(*pid))
        .sum();
    let rules = ["iptables-save", "ip6tables-save"]
        .iter()
        .map(|tool| rules(lab, tool))
        .sum();
    let start = Instant::now();
    lab.docker.ask(&["rm", "-f", "many"]);
    Cost {
        who,
        ports,
        run,
        answers,
        remove: start.elapsed(),
        processes: proxies.len(),
        memory,
        rules,
    }
}

/// Tries once, and not for long: the engine's own listener takes connections before the port is published, and never
/// answers.
fn page(host: [u8; 4], port: u16) -> io::Result<String> {
    const SHORT: Duration = Duration::from_millis(50);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((host, port)), SHORT)?;
    stream.set_read_timeout(Some(SHORT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// `Pss` of /proc/PID/smaps_rollup, in KiB.
fn proportional(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

fn rules(lab: &DockerLab, tool: &str) -> usize {
    let mut command: Command = lab.host.command(tool);
    let saved = command.output().expect("iptables");
    let saved = String::from_utf8_lossy(&saved.stdout).into_owned();
    saved.lines().filter(|line| line.starts_with("-A ")).count()
}

/// What a row shows, and how it is written.
type Row = (&'static str, fn(&Cost) -> String);

/// The costs as a table of Markdown.
pub struct Table<'a>(pub &'a [Cost]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.0.first().map_or(0, |cost| cost.ports);
        write!(f, "| one container, {ports} ports |")?;
        for cost in self.0 {
            write!(f, " {} |", cost.who)?;
        }
        writeln!(f, "\n| --- |{}", " ---: |".repeat(self.0.len()))?;
        let rows: [Row; 6] = [
            ("`docker run` returns after", |cost| {
                format!("{:.2} s", cost.run.as_secs_f64())
            }),
            ("the last port answers after", |cost| {
                format!("{:.2} s", cost.answers.as_secs_f64())
            }),
            ("`docker rm -f` returns after", |cost| {
                format!("{:.2} s", cost.remove.as_secs_f64())
            }),
            ("processes of docker-proxy", |cost| {
                cost.processes.to_string()
            }),
            ("memory of proxies or service (PSS)", |cost| {
                format!("{:.1} MiB", cost.memory as f64 / 1024.0)
            }),
            ("rules of iptables and ip6tables", |cost| {
                cost.rules.to_string()
            }),
        ];
        for (what, value) in rows {
            write!(f, "| {what} |")?;
            for cost in self.0 {
                write!(f, " {} |", value(cost))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
