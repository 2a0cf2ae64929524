//! datapath against what it takes the place of, measured side by side.
//!
//! Ratios within one run mean something, absolute figures of a shared machine do not: the contenders take turns
//! in every round, on the same topology, and a figure counts only when the packets arrived.

mod contender;
mod driver;
mod generator;
mod report;
mod users;

use std::{path::Path, time::Instant};

pub use self::report::Report;
use self::{contender::Contender, report::Cell};

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often every contender has its turn.
    pub rounds: u32,
    /// Frames for each figure at driver level.
    pub frames: u32,
    /// Milliseconds for each figure of what a user feels.
    pub time: u64,
    /// Only the measurements whose name contains this.
    pub only: Option<String>,
}

impl Plan {
    fn wants(&self, name: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    }
}

/// Measures everything. `progress` is told what is being done.
#[must_use]
pub fn run(plan: &Plan, mut progress: impl FnMut(&str)) -> Report {
    let start = Instant::now();
    let mut report = Report::default();
    for round in 1..=plan.rounds {
        for contender in Contender::ALL {
            progress(&format!(
                "round {round} of {}: {}",
                plan.rounds,
                contender.name()
            ));
            let stage = contender.stage();
            for (name, unit, better, value) in driver::measure(&stage, plan)
                .into_iter()
                .chain(users::measure(&stage, plan))
            {
                report.add(Cell { name, unit, better }, contender.name(), value);
            }
        }
    }
    report.seconds = start.elapsed().as_secs();
    report
}

/// Writes a report where the documentation has it.
///
/// # Errors
/// When a file cannot be written.
pub fn save(report: &Report, directory: &Path) -> std::io::Result<()> {
    report.save(directory)
}
