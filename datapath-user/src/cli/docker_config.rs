//! `datapath docker-config`: what Docker's daemon.json has to say, shown, written, or taken back.

use std::path::PathBuf;

use anyhow::Result;
use similar::{ChangeTag, TextDiff};

use super::output;
use crate::docker_config::{Change, path};

/// What stands below the options.
pub(super) const HELP: &str = "\
Examples:\n  datapath docker-config\n  datapath docker-config --apply\n  datapath docker-config --undo\n\n\
Without --apply or --undo nothing is changed. Everything else in the file stays as it was written; what was there \
before is kept beside it, as FILE.before-datapath. Docker is not restarted: it reads the file when it starts.";

/// The command's options.
#[derive(Debug, clap::Args)]
pub(super) struct DockerConfig {
    /// Write the file.
    #[arg(long, conflicts_with = "undo")]
    apply: bool,
    /// Take back what --apply did: to the letter, unless the file was changed since.
    #[arg(long)]
    undo: bool,
    /// The file [default: the running dockerd's, or else /etc/docker/daemon.json].
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

impl DockerConfig {
    /// Does what was asked.
    pub(super) fn exec(self) -> Result<()> {
        let file = self.file.unwrap_or_else(path);
        let change = if self.undo {
            Change::undo(&file)?
        } else {
            Change::apply(&file)?
        };
        let name = change.path.display();
        let backup = change.backup.display();
        if change.changes_nothing() && !self.undo {
            return output::line(&format!("{name}: says what it should; nothing to change"));
        }
        output::line(&difference(&change))?;
        if self.undo {
            change.write_and_forget()?;
            output::line(&format!(
                "\n{name}: as it was before; Docker reads it when it is restarted next"
            ))
        } else if self.apply {
            change.keep_and_write()?;
            output::line(&format!(
                "\n{name}: written; what was there is in {backup}\n\
                 Next: start the service (`systemctl enable --now datapath`), then restart Docker when it suits \
                 (`systemctl restart docker`;\nwithout \"live-restore\" that stops the containers). \
                 `datapath doctor` says what is left to do."
            ))
        } else {
            output::line(
                "\nNothing was changed; `datapath docker-config --apply` makes this change.",
            )
        }
    }
}

/// The change, line by line, as `diff -u` has it.
fn difference(change: &Change) -> String {
    let name = change.path.display();
    let (before, after) = (change.before.as_deref(), change.after.as_deref());
    let absent = |text: Option<&str>| {
        if text.is_some() {
            name.to_string()
        } else {
            "/dev/null".to_owned()
        }
    };
    let mut lines = vec![
        format!("--- {}", absent(before)),
        format!("+++ {}", absent(after)),
    ];
    let diff = TextDiff::from_lines(before.unwrap_or_default(), after.unwrap_or_default());
    for change in diff.iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        // A file of somebody else's, on a terminal.
        let line = change
            .value()
            .trim_end_matches(['\n', '\r'])
            .replace(char::is_control, " ");
        lines.push(format!("{sign}{line}"));
    }
    lines.join("\n")
}
