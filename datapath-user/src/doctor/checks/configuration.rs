//! Our own configuration.

use std::path::Path;

use super::super::{Found, Subject, fine, note, todo};
use crate::config::DEFAULT_PATH;

pub(super) fn look(subject: &Subject) -> Found {
    let mut found = match &subject.config_fault {
        Some(fault) => vec![todo(
            fault.to_string(),
            "mend that line; the service does not start with it, and a running one keeps what it had",
        )],
        None if Path::new(DEFAULT_PATH).exists() => vec![fine("the configuration makes sense")],
        None => vec![fine(
            "no configuration file, and none is needed: Docker says what to do",
        )],
    };
    for missing in &subject.desired.missing {
        found.push(note(format!(
            "interface {missing} does not exist; it is attached to as soon as it does"
        )));
    }
    for unfit in &subject.desired.unfit {
        found.push(todo(
            format!("interface {unfit}: frames on it have no Ethernet header, which is not supported yet"),
            "take it out of the configuration; the service does not start with it, and a running one leaves it alone",
        ));
    }
    found
}
