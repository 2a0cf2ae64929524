//! `datapath top`, looked at in a real terminal (tmux).

use std::process::Command;

use datapath_tests::lab::{Datapath, Lab, run, wait_until};

use crate::talk::{self, Talk};

const PORTS: &str = "[[publish]]\nlisten = \"0.0.0.0:8080\"\nto = \"172.17.0.2:80\"\n\
                     [[publish]]\nlisten = \"0.0.0.0:9090\"\nto = \"172.17.0.2:80\"\n";

/// A terminal of the run's own: a server of its own, which goes with it.
struct Terminal {
    socket: String,
    _dir: tempfile::TempDir,
}

impl Terminal {
    /// One in which a shell waits for what is typed.
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("tmux").to_str().unwrap().to_owned();
        let terminal = Self { socket, _dir: dir };
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "160",
            "-y",
            "30",
            "sh",
        ]);
        terminal.types("PS1='$ '");
        terminal.shows("$ ");
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = run(Command::new("tmux")
            .args(["-u", "-S", &self.socket])
            .args(arguments)
            .env("LC_ALL", "C.UTF-8"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press("Enter");
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until this is to be seen, and returns the whole screen.
    fn shows(&self, text: &str) -> String {
        let mut screen = String::new();
        wait_until(text, || {
            screen = self.screen();
            screen.contains(text)
        });
        screen
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(
            Command::new("tmux")
                .args(["-S", &self.socket, "kill-server"])
                .output(),
        );
    }
}

#[test]
fn ports_flows_and_drops_are_watched_in_a_terminal() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, PORTS);
    talk::serve(&lab.container, "0.0.0.0:80");
    let mut talk = Talk::open(&lab.lan, "203.0.113.2:8080").unwrap();
    let terminal = Terminal::open();
    let command = datapath.command(&["top"]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let start = || terminal.types(&format!("{}; echo \"status $?\"", line.join(" ")));

    start();
    let screen = terminal.shows("0.0.0.0:9090/tcp");
    println!("{screen}");
    assert!(
        screen.contains("datapath top") && screen.contains("BYTES/s"),
        "{screen}"
    );
    // A filter leaves one of the two.
    terminal.press("f");
    terminal.tmux(&["send-keys", "-l", "8080"]);
    terminal.shows("filter: 8080_");
    terminal.press("Enter");
    terminal.shows("only \"8080\"");
    wait_until("the other port is gone", || {
        !terminal.screen().contains("9090")
    });
    // The flow, and its rate while it talks.
    terminal.press("Tab");
    let screen = terminal.shows("ESTABLISHED");
    println!("{screen}");
    assert!(
        screen.contains("203.0.113.9:") && screen.contains("172.17.0.2:80"),
        "{screen}"
    );
    wait_until("a rate", || {
        talk.ask().unwrap();
        let screen = terminal.screen();
        let row = screen.lines().find(|line| line.contains("ESTABLISHED"));
        // Bytes each second are the sixth column.
        row.and_then(|row| row.split_whitespace().nth(5))
            .is_some_and(|rate| rate != "0")
    });
    terminal.press("s");
    terminal.shows("by bytes");
    terminal.press("p");
    terminal.shows("PAUSED");
    terminal.press("3");
    terminal.shows("MEANING");
    terminal.press("q");
    let screen = terminal.shows("status 0");
    assert!(
        !screen.contains("MEANING"),
        "the terminal is as it was: {screen}"
    );

    // SIGTERM ends it as well, and leaves the terminal clean: what is typed is seen.
    terminal.types("clear");
    start();
    terminal.shows("BYTES/s");
    let shell = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
    let child = run(Command::new("ps").args(["-o", "pid=", "--ppid", shell.trim()]));
    let child = String::from_utf8_lossy(&child.stdout).trim().to_owned();
    run(Command::new("kill").args(["-TERM", &child]));
    let screen = terminal.shows("status 0");
    assert!(!screen.contains("BYTES/s"), "{screen}");
    terminal.types("echo to be  seen");
    terminal.shows("echo to be  seen");
}

#[test]
fn without_a_terminal_it_says_what_else_there_is() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, "");
    let output = datapath.cli(&["top"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("top needs a terminal; `datapath ports`"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}
