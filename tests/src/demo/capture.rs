//! tcpdump on two interfaces, side by side.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use crate::lab::{Netns, run};

/// A capture under way.
pub(super) struct Capture(Child);

impl Capture {
    /// Starts one of IPv4, and waits until it sees.
    pub(super) fn start(netns: &Netns, interface: &str) -> Self {
        let mut child = netns
            .command("tcpdump")
            .args(["-Ulntqi", interface, "ip"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its messages")).lines();
        assert!(
            lines.any(|line| line.is_ok_and(|line| line.contains("listening on"))),
            "tcpdump ended"
        );
        Self(child)
    }

    /// Ends it, and returns what it saw.
    pub(super) fn end(self) -> Vec<String> {
        // The last packets have to reach it.
        std::thread::sleep(std::time::Duration::from_millis(200));
        run(Command::new("kill").arg(self.0.id().to_string()));
        let output = self.0.wait_with_output().expect("tcpdump ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .map(|line| line.trim_start_matches("IP ").to_owned())
            .collect()
    }
}

/// Shows two captures in two columns.
pub(super) fn beside(left_name: &str, left: &[String], right_name: &str, right: &[String]) {
    const WIDTH: usize = 52;
    const LINES: usize = 6;
    let cut = |line: Option<&String>| -> String {
        line.map(|line| line.chars().take(WIDTH - 2).collect())
            .unwrap_or_default()
    };
    super::stage::say(&format!("    {left_name:<WIDTH$}│ {right_name}"));
    for row in 0..left.len().max(right.len()).min(LINES) {
        super::stage::say(&format!(
            "    {:<WIDTH$}│ {}",
            cut(left.get(row)),
            cut(right.get(row))
        ));
    }
}
