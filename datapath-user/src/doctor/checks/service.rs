//! The service: whether it runs, and what it complains of.

use super::super::{Found, State, Subject, fine, todo, unknown};
use crate::{
    api::client::Service,
    kernel::pinned::{Error, Pinned},
};

pub(super) fn look(subject: &Subject) -> Found {
    let status = match &subject.service {
        Service::Answers(status) => status,
        Service::Unknown(why) if subject.root => {
            return vec![todo(
                why,
                "look at its log (`journalctl --unit datapath`), and `systemctl restart datapath`: no connection notices",
            )];
        }
        Service::Unknown(why) => return vec![unknown(why)],
        Service::Absent => return vec![absent(subject)],
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

fn absent(subject: &Subject) -> (State, String, Option<String>) {
    let pinned = Pinned::open(&subject.config.pin_dir).and_then(|pinned| pinned.attachments());
    let says = match pinned {
        Ok(attached) if !attached.is_empty() => {
            "the service does not run; the datapath works without it, and nothing new is published"
        }
        Err(Error::Permission(_)) => "the service does not run",
        Ok(_) | Err(Error::Absent(_) | Error::Elsewhere { .. } | Error::Map(_)) => {
            "the service does not run, and nothing is attached"
        }
    };
    todo(says, "`systemctl enable --now datapath`, or `datapath run`")
}
