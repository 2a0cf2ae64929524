//! Our own configuration.

use super::super::{Found, Subject, fine, note, todo};

pub(super) fn look(subject: &Subject) -> Found {
    let mut found = match (&subject.config_fault, &subject.config_path) {
        (Some(fault), _) => vec![todo(
            fault.to_string(),
            "mend that line; the service does not start with it, and a running one keeps what it had",
        )],
        (None, Some(path)) => vec![fine(format!("{} makes sense", path.display()))],
        (None, None) => vec![fine(
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
