//! What Docker's configuration says of the parts that are ours.

use super::super::{Found, Subject, fine, note, todo};
use crate::docker_config::{self, FLAGS};

pub(super) fn look(subject: &Subject) -> Found {
    if subject.docker.is_none() && subject.engines.is_empty() {
        return vec![note(
            "no engine is here; what its daemon.json says does not matter",
        )];
    }
    let path = docker_config::path();
    vec![match docker_config::lacking(&path, &subject.engines) {
        Ok(lacking) if lacking.is_empty() => fine(format!("{} are false", FLAGS.join(", "))),
        Ok(lacking) => todo(
            format!(
                "{}: {} not false: Docker does itself what datapath is for",
                path.display(),
                match lacking.as_slice() {
                    [one] => format!("{one} is"),
                    several => format!("{} are", several.join(", ")),
                }
            ),
            "`datapath docker-config` shows the change, `datapath docker-config --apply` makes it",
        ),
        Err(error) => todo(
            error.to_string(),
            "see there; `datapath docker-config` says more",
        ),
    }]
}
