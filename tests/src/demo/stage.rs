//! Where the demo takes place, and how it shows what it does.

use std::{
    io::ErrorKind,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, bail};

use crate::lab::{Datapath, DockerLab, Netns, tcp_exchange, wait_until};

/// Lines of a long output that are shown.
const SHOWN: usize = 18;

/// A Docker host, its engine, a neighbour, and datapath.
pub(super) struct Stage {
    // Before the engine that it follows: its end is not the engine's failure.
    datapath: Datapath,
    pub(super) lab: DockerLab,
}

impl Stage {
    pub(super) fn build() -> Self {
        title("A Docker host, its neighbour on the network, a real engine, and datapath");
        say("  lan 203.0.113.9 ── eth0 203.0.113.2 host 172.17.0.1 docker0 ── containers\n");
        command(
            "host",
            "dockerd --iptables=false --ip6tables=false --userland-proxy=false",
        );
        let lab = DockerLab::new();
        command("host", "datapath run");
        let datapath = Datapath::following(&lab, "");
        serve(&lab.lan);
        holds("both run");
        Self { datapath, lab }
    }

    /// Runs Docker's client, shows what it says, and returns it.
    pub(super) fn docker(&self, arguments: &[&str]) -> Result<String> {
        command(
            "host",
            &format!("docker {}", arguments.join(" ").replace('\t', "\\t")),
        );
        show(self.lab.docker.client().args(arguments).output())
    }

    /// Runs a command in a namespace, shows what it says, and returns it.
    pub(super) fn inside(&self, netns: &Netns, who: &str, words: &[&str]) -> Result<String> {
        let (program, arguments) = words.split_first().context("a command has a name")?;
        command(who, &words.join(" "));
        let mut last = Ok(String::new());
        // What was published a moment ago may take a few milliseconds.
        wait_until("the command", || {
            let output = netns.command(program).args(arguments).output();
            let done = output.as_ref().is_ok_and(|output| output.status.success());
            last = output
                .map_err(anyhow::Error::from)
                .map(|output| said(&output));
            done
        });
        let text = last?;
        print(&text);
        Ok(text)
    }

    /// Runs one of datapath's commands.
    pub(super) fn datapath(&self, arguments: &[&str]) -> Result<String> {
        command("host", &format!("datapath {}", arguments.join(" ")));
        show(Ok(self.datapath.cli(arguments)))
    }

    /// Dumps a pinned map with bpftool.
    pub(super) fn dump(&self, map: &str) -> Result<String> {
        let maps = std::fs::read_dir(self.datapath.pins())?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.join(map).exists())
            .context("the pinned maps")?;
        command("host", &format!("bpftool map dump pinned .../{map}"));
        let pin = maps.join(map);
        show(
            Command::new("bpftool")
                .args(["map", "dump", "pinned"])
                .arg(pin)
                .output(),
        )
    }

    /// Waits until the neighbour is refused.
    pub(super) fn until_refused(&self, port: u16) {
        command("lan", &format!("curl http://203.0.113.2:{port}/"));
        let to = format!("203.0.113.2:{port}");
        // One that asks while the container is on its way out hears nothing; whoever comes after is refused.
        wait_until("the port to be refused", || {
            let answer = tcp_exchange(&self.lab.lan, &to, Vec::new());
            answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        });
        print("Connection refused");
    }
}

/// A server outside that answers with the address that it sees.
fn serve(lan: &Netns) {
    use std::{io::Write as _, net::TcpListener};
    let listener = lan.enter(|| TcpListener::bind("0.0.0.0:8000").expect("the neighbour's port"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Ok(client) = stream.peer_addr() else {
                continue;
            };
            let body = format!("hello, {}\n", client.ip());
            let length = body.len();
            drop(write!(
                stream,
                "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            ));
        }
    });
}

/// Says a line.
pub(super) fn say(line: &str) {
    anstream::println!("{line}");
}

/// Begins a step.
pub(super) fn title(text: &str) {
    let style = anstyle::Style::new().bold();
    say(&format!("\n{style}{text}{style:#}"));
}

/// Says that a step held.
pub(super) fn holds(what: &str) {
    let style = anstyle::AnsiColor::Green.on_default();
    say(&format!("  {style}✓{style:#} {what}"));
}

fn command(who: &str, text: &str) {
    let style = anstyle::AnsiColor::Cyan.on_default();
    say(&format!("  {style}{who}${style:#} {text}"));
}

fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    text
}

fn show(output: std::io::Result<Output>) -> Result<String> {
    let output = output?;
    let text = said(&output);
    print(&text);
    if !output.status.success() {
        bail!("it failed: {}", text.trim());
    }
    Ok(text)
}

fn print(text: &str) {
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    for line in lines.iter().take(SHOWN) {
        say(&format!("    {line}"));
    }
    if lines.len() > SHOWN {
        say(&format!("    ... ({} lines more)", lines.len() - SHOWN));
    }
}
