//! What was measured: figures by part, measurement, contender and size, as results.json has them.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::contender::Contender;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Better {
    Less,
    More,
}

/// What is measured. A name may have a group before it: `group: name`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    name: &'static str,
    unit: &'static str,
    better: Better,
}

/// One figure of one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    measure: Measure,
    at: Option<u64>,
    value: f64,
}

impl Measure {
    pub(super) const fn new(name: &'static str, unit: &'static str, better: Better) -> Self {
        Self { name, unit, better }
    }

    pub(super) const fn figure(self, value: f64) -> Figure {
        Figure {
            measure: self,
            at: None,
            value,
        }
    }

    /// A figure at a size: so many ports, or flows.
    pub(super) const fn at(self, size: u64, value: f64) -> Figure {
        Figure {
            measure: self,
            at: Some(size),
            value,
        }
    }
}

/// All that is known, by part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Results(pub(super) BTreeMap<String, PartResult>);

/// What one part's run found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PartResult {
    pub(super) machine: BTreeMap<String, String>,
    pub(super) rounds: u32,
    pub(super) seconds: u64,
    pub(super) measurements: Vec<Measurement>,
}

/// A measurement, of all contenders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Measurement {
    pub(super) name: String,
    pub(super) unit: String,
    pub(super) better: Better,
    /// In the order of the first round.
    pub(super) contenders: Vec<Row>,
}

/// A contender's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) contender: String,
    pub(super) points: Vec<Point>,
}

/// The rounds' figures at one size, or at none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<u64>,
    pub(super) median: f64,
    pub(super) rounds: Vec<f64>,
}

impl Results {
    /// What a former run wrote there, or nothing.
    ///
    /// # Errors
    /// When there is something else.
    pub fn load(file: &Path) -> io::Result<Self> {
        match fs::read_to_string(file) {
            Ok(text) => serde_json::from_str(&text).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, file: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        fs::write(file, text + "\n")
    }

    /// Puts another run's parts in the place of those that are here.
    pub fn renew(&mut self, newer: Self) {
        self.0.extend(newer.0);
    }

    /// A median, if that was measured.
    pub(super) fn median(
        &self,
        part: &str,
        measurement: &str,
        contender: Contender,
        at: Option<u64>,
    ) -> Option<f64> {
        let measurements = &self.0.get(part)?.measurements;
        let measurement = measurements.iter().find(|one| one.name == measurement)?;
        Some(measurement.row(contender.name())?.point(at)?.median)
    }
}

impl PartResult {
    pub(super) fn add(&mut self, contender: Contender, figure: Figure) {
        let Figure { measure, at, value } = figure;
        let measurement = place(
            &mut self.measurements,
            |one| one.name == measure.name,
            || Measurement {
                name: measure.name.to_owned(),
                unit: measure.unit.to_owned(),
                better: measure.better,
                contenders: Vec::new(),
            },
        );
        let row = place(
            &mut measurement.contenders,
            |row| row.contender == contender.name(),
            || Row {
                contender: contender.name().to_owned(),
                points: Vec::new(),
            },
        );
        let point = place(
            &mut row.points,
            |point| point.at == at,
            || Point {
                at,
                median: 0.0,
                rounds: Vec::new(),
            },
        );
        // More digits say nothing, and make a difference of every line.
        point.rounds.push((value * 100.0).round() / 100.0);
        point.median = median(&point.rounds);
    }
}

/// The entry that is looked for, made at the end where there is none.
fn place<T>(all: &mut Vec<T>, is: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    let index = all.iter().position(is).unwrap_or(all.len());
    if index == all.len() {
        all.push(new());
    }
    &mut all[index]
}

impl Measurement {
    /// The part of the name before the colon, if there is one; then the rest.
    pub(super) fn group_and_name(&self) -> (&str, &str) {
        self.name.split_once(": ").unwrap_or(("", &self.name))
    }

    pub(super) fn row(&self, contender: &str) -> Option<&Row> {
        self.contenders
            .iter()
            .find(|row| row.contender == contender)
    }

    /// The sizes that anybody was measured at.
    pub(super) fn sizes(&self) -> Vec<u64> {
        let mut sizes: Vec<_> = self
            .contenders
            .iter()
            .flat_map(|row| row.points.iter().filter_map(|point| point.at))
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }
}

impl Row {
    pub(super) fn point(&self, at: Option<u64>) -> Option<&Point> {
        self.points.iter().find(|point| point.at == at)
    }
}

impl Point {
    /// The least and the most of all rounds.
    pub(super) fn spread(&self) -> (f64, f64) {
        self.rounds
            .iter()
            .fold((f64::MAX, f64::MIN), |(low, high), value| {
                (low.min(*value), high.max(*value))
            })
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// What it is measured on and with.
pub(super) fn machine() -> BTreeMap<String, String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("unknown");
    let count = cpus
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let release = read("/proc/sys/kernel/osrelease");
    // What follows the numbers names somebody's build.
    let kernel = release.trim().split('-').next().unwrap_or_default();
    let cpu = format!("{count} × {}", model.trim_start_matches([' ', '\t', ':']));
    [
        ("cpu", cpu),
        ("kernel", kernel.to_owned()),
        ("datapath", env!("CARGO_PKG_VERSION").to_owned()),
        ("iptables", version("iptables", "--version")),
        ("nft", version("nft", "--version")),
        ("docker", version("dockerd", "--version")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The first word of a program's own words that begins with a number, without a `v` before it and a packager's mark
/// after it.
fn version(program: &str, argument: &str) -> String {
    let said = std::process::Command::new(program).arg(argument).output();
    let said = said.map_or_else(
        |_| Vec::new(),
        |output| [output.stdout, output.stderr].concat(),
    );
    String::from_utf8_lossy(&said)
        .split_whitespace()
        .filter_map(|word| word.trim_start_matches('v').split([',', '+']).next())
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or("unknown")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        let mut part = PartResult::default();
        let measure = Measure::new("cost", "ns", Better::Less);
        for (round, value) in [30.0, 10.0, 20.0].into_iter().enumerate() {
            part.rounds = round as u32 + 1;
            part.add(Contender::Routed, measure.figure(value));
            part.add(Contender::Datapath, measure.at(100, value / 2.0));
        }
        let mut results = Results::default();
        results.0.insert("part".to_owned(), part);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("results.json");
        assert_eq!(Results::load(&file).unwrap(), Results::default());
        results.save(&file).unwrap();
        assert_eq!(Results::load(&file).unwrap(), results);
        let median = |contender, at| results.median("part", "cost", contender, at);
        assert_eq!(median(Contender::Routed, None), Some(20.0));
        assert_eq!(median(Contender::Datapath, Some(100)), Some(10.0));
        assert_eq!(median(Contender::Datapath, None), None);
    }
}
