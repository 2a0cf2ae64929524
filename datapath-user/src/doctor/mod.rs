//! What this host offers, what it lacks, and what is in the way: with the remedy, and in the order in which to do it.
//!
//! Nothing is changed. What takes root to know is said to be unknown without it.

mod checks;
mod rules;
mod subject;

use serde::Serialize;

pub use self::subject::Subject;

/// How a matter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Fine,
    /// Works, and worth knowing.
    Note,
    /// Takes root to know.
    Unknown,
    /// Has to be changed.
    Todo,
}

impl State {
    /// Its name, in words of four letters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Unknown => "????",
            Self::Todo => "todo",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name.
    pub check: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub says: String,
    /// What to do.
    pub remedy: Option<String>,
}

/// What a check says, one for each matter.
type Found = Vec<(State, String, Option<String>)>;

/// A matter that is as it should be.
fn fine(says: impl Into<String>) -> (State, String, Option<String>) {
    (State::Fine, says.into(), None)
}

/// Something worth knowing.
fn note(says: impl Into<String>) -> (State, String, Option<String>) {
    (State::Note, says.into(), None)
}

/// Something that root would know.
fn unknown(says: impl Into<String>) -> (State, String, Option<String>) {
    let remedy = Some("run `datapath doctor` as root".to_owned());
    (State::Unknown, says.into(), remedy)
}

/// Something to do.
fn todo(says: impl Into<String>, remedy: impl Into<String>) -> (State, String, Option<String>) {
    (State::Todo, says.into(), Some(remedy.into()))
}

/// Everything that is found, in the order in which to see to it.
#[must_use]
pub fn examine(subject: &Subject) -> Vec<Finding> {
    let checks = checks::ALL.iter();
    let findings = checks.flat_map(|(check, look)| {
        look(subject)
            .into_iter()
            .map(|(state, says, remedy)| Finding {
                check,
                state,
                // Others' words may be part of it.
                says: says.replace(char::is_control, " "),
                remedy,
            })
    });
    findings.collect()
}
