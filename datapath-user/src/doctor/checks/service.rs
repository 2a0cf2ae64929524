//! The service: whether it runs, and what it complains of.

use super::super::{Found, Subject, fine, todo};
use crate::kernel::pinned::{Error, Pinned};

pub(super) fn look(subject: &Subject) -> Found {
    let Some(status) = &subject.service else {
        let pinned = Pinned::open(&subject.config.pin_dir).and_then(|pinned| pinned.attachments());
        let what = match pinned {
            Ok(attached) if !attached.is_empty() => {
                "the service does not run; the datapath works without it, and nothing new is published"
            }
            Err(Error::Permission(_)) => {
                "the service does not answer (its socket is root's and its group's)"
            }
            Ok(_) | Err(Error::Absent(_) | Error::Map(_)) => {
                "the service does not run, and nothing is attached"
            }
        };
        return vec![todo(
            what,
            "`systemctl enable --now datapath`, or `datapath run`",
        )];
    };
    let mut found = vec![fine(format!(
        "the service runs: process {}, version {}, {} ports published",
        status.pid, status.version, status.ports
    ))];
    if status.version != env!("CARGO_PKG_VERSION") {
        found.push(todo(
            format!(
                "the service is version {}, this command {}",
                status.version,
                env!("CARGO_PKG_VERSION")
            ),
            "`systemctl restart datapath`: no connection notices",
        ));
    }
    for problem in &status.problems {
        found.push(todo(
            format!("the service says: {problem}"),
            "see what it names",
        ));
    }
    found
}
