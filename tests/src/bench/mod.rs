//! datapath against what it takes the place of, measured side by side.
//!
//! Ratios within one run mean something, absolute figures of a shared machine do not: the contenders take turns
//! in every round, on the same topology, and a figure counts only when the packets arrived.

pub(crate) mod bpf;
mod contender;
pub mod docker;
mod docs;
mod drawing;
mod driver;
mod flows;
mod generator;
mod goals;
mod host;
mod peers;
mod ports;
mod profile;
mod programs;
mod results;
mod sink;
mod stage;
mod text;
mod users;

pub use self::bpf::let_through;

use std::time::{Duration, Instant};

use self::{
    contender::Contender,
    results::{Figure, PartResult},
    stage::Stage,
};
pub use self::{docs::save, results::Results};

/// A part of the measuring, which can be run and saved without the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// What a packet costs the host alone.
    Driver,
    /// What a user feels: connections, requests, streams, latency.
    Users,
    /// How cost grows with published ports.
    Ports,
    /// How cost grows with live flows.
    Flows,
    /// What a packet pays that is none of ours.
    Host,
    /// What each program takes of its packets, and how large it is.
    Programs,
    /// Where the time of a packet goes.
    Profile,
}

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which parts.
    pub parts: Vec<Part>,
    /// How often every contender has its turn.
    pub rounds: u32,
    /// Little of everything, to look at.
    pub quick: bool,
    /// Only the contenders whose name contains this.
    pub against: Option<String>,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Driver,
        Self::Users,
        Self::Ports,
        Self::Flows,
        Self::Host,
        Self::Programs,
        Self::Profile,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Users => "users",
            Self::Ports => "ports",
            Self::Flows => "flows",
            Self::Host => "host",
            Self::Programs => "programs",
            Self::Profile => "profile",
        }
    }

    /// Whether there is something to measure of a contender here.
    const fn has(self, contender: Contender) -> bool {
        match self {
            Self::Driver => contender.forwards(),
            Self::Users => contender.answers(),
            Self::Ports => {
                contender.translates() && !matches!(contender, Contender::DatapathKernel)
            }
            Self::Flows => {
                contender.translates()
                    && contender.forwards()
                    && !matches!(contender, Contender::DatapathKernel)
            }
            Self::Host => matches!(contender, Contender::Datapath),
            Self::Programs => {
                matches!(contender, Contender::Datapath | Contender::DatapathKernel)
            }
            Self::Profile => profile::is_of_interest(contender),
        }
    }

    /// Measures one contender once.
    fn measure(self, contender: Contender, quick: bool) -> Vec<Figure> {
        let config = match self {
            Self::Flows => flows::CONFIG,
            Self::Driver
            | Self::Users
            | Self::Ports
            | Self::Host
            | Self::Programs
            | Self::Profile => "",
        };
        let mut stage = Stage::new(contender, config);
        let frames = if quick { 200_000 } else { 1_000_000 };
        let time = Duration::from_millis(if quick { 100 } else { 500 });
        match self {
            Self::Driver => driver::measure(&stage, frames),
            Self::Users => users::measure(&stage, time),
            Self::Ports => {
                let sizes = if quick {
                    &ports::SIZES[..3]
                } else {
                    &ports::SIZES
                };
                ports::measure(&mut stage, sizes, frames / 4, time)
            }
            Self::Flows => {
                let sizes = if quick {
                    &flows::SIZES[..2]
                } else {
                    &flows::SIZES
                };
                flows::measure(&stage, sizes, frames / 2)
            }
            Self::Host => host::measure(&stage, frames),
            Self::Programs => programs::measure(&stage, frames),
            Self::Profile => profile::measure(&stage, frames, time),
        }
    }
}

/// Measures everything. `progress` is told what is being done.
#[must_use]
pub fn run(plan: &Plan, mut progress: impl FnMut(&str)) -> Results {
    let mut results = Results::default();
    for part in Part::ALL
        .into_iter()
        .filter(|part| plan.parts.contains(part))
    {
        if part == Part::Profile && !profile::is_possible() {
            progress("profile: left out, since perf can't look at this machine's CPU");
            continue;
        }
        let start = Instant::now();
        let _room = (part == Part::Flows).then(flows::Room::new);
        let mut result = PartResult {
            machine: results::machine(),
            rounds: plan.rounds,
            ..PartResult::default()
        };
        for round in 1..=plan.rounds {
            let contenders = Contender::ALL.into_iter().filter(|one| part.has(*one));
            for contender in contenders.filter(|one| plan.wants(*one)) {
                progress(&format!(
                    "{}, round {round} of {}: {}",
                    part.name(),
                    plan.rounds,
                    contender.name()
                ));
                for figure in part.measure(contender, plan.quick) {
                    result.add(contender, figure);
                }
            }
        }
        result.seconds = start.elapsed().as_secs();
        results.0.insert(part.name().to_owned(), result);
    }
    results
}

impl Plan {
    fn wants(&self, contender: Contender) -> bool {
        let name = contender.name();
        self.against
            .as_ref()
            .is_none_or(|against| name.contains(against.as_str()))
    }
}
