//! What was measured: as a table, as JSON, and as a drawing.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs, io,
    path::Path,
};

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Better {
    Less,
    More,
}

/// A figure: its measurement's name, its unit, which way is better, its value.
pub(super) type Figure = (&'static str, &'static str, Better, f64);

/// A contender's figures, round by round.
type Row = (&'static str, Vec<f64>);

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
}

/// All figures of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By measurement in the order of their first round, then by contender in theirs.
    cells: Vec<(Cell, Vec<Row>)>,
    /// How long it took.
    pub seconds: u64,
}

/// The contender that the others are set against.
const OURS: &str = "datapath";

impl Report {
    pub(super) fn add(&mut self, cell: Cell, contender: &'static str, value: f64) {
        let rows = match self.cells.iter().position(|(known, _)| *known == cell) {
            Some(place) => &mut self.cells[place].1,
            None => {
                self.cells.push((cell, Vec::new()));
                &mut self.cells.last_mut().expect("pushed just now").1
            }
        };
        match rows.iter_mut().find(|(name, _)| *name == contender) {
            Some((_, values)) => values.push(value),
            None => rows.push((contender, vec![value])),
        }
    }

    /// Writes `results.json` and one drawing for each measurement.
    pub(super) fn save(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let measurements: Vec<_> = self
            .cells
            .iter()
            .map(|(cell, rows)| json(cell, rows))
            .collect();
        let all = serde_json::json!({
            "machine": machine(),
            "seconds": self.seconds,
            "measurements": measurements,
        });
        fs::write(directory.join("results.json"), format!("{all:#}\n"))?;
        for (cell, rows) in &self.cells {
            let name: String = cell
                .name
                .chars()
                .map(|c| {
                    if c.is_ascii_alphanumeric() {
                        c.to_ascii_lowercase()
                    } else {
                        '-'
                    }
                })
                .collect();
            fs::write(directory.join(format!("{name}.svg")), drawing(cell, rows))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (cell, rows) in &self.cells {
            let better = match cell.better {
                Better::Less => "less is better",
                Better::More => "more is better",
            };
            writeln!(f, "\n{} ({}, {better})", cell.name, cell.unit)?;
            let ours = rows
                .iter()
                .find(|(name, _)| *name == OURS)
                .map(|(_, values)| median(values));
            for (name, values) in rows {
                let value = median(values);
                let (low, high) = spread(values);
                write!(f, "  {name:<30} {value:>12.1}  [{low:.1} .. {high:.1}]")?;
                if let Some(ours) = ours.filter(|_| *name != OURS) {
                    let ratio = match cell.better {
                        Better::Less => value / ours,
                        Better::More => ours / value,
                    };
                    write!(f, "   datapath is {ratio:.2} times as good")?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn spread(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(*value), high.max(*value))
        })
}

fn json(cell: &Cell, rows: &[Row]) -> serde_json::Value {
    let rows: BTreeMap<_, _> = rows
        .iter()
        .map(|(name, values)| {
            (
                *name,
                serde_json::json!({ "median": median(values), "rounds": values }),
            )
        })
        .collect();
    serde_json::json!({ "name": cell.name, "unit": cell.unit, "contenders": rows })
}

/// What it was measured on.
fn machine() -> serde_json::Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("unknown");
    serde_json::json!({
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "cpus": cpus.lines().filter(|line| line.starts_with("processor")).count(),
    })
}

/// Bars, one for each contender, ours in another colour.
fn drawing(cell: &Cell, rows: &[Row]) -> String {
    const LEFT: f64 = 220.0;
    const WIDTH: f64 = 420.0;
    const STEP: f64 = 28.0;
    let most = rows
        .iter()
        .map(|(_, values)| median(values))
        .fold(1.0, f64::max);
    let height = STEP * (rows.len() as f64 + 1.5);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-weight=\"bold\">{} ({})</text>\n",
        cell.name, cell.unit
    );
    for (row, (name, values)) in rows.iter().enumerate() {
        let value = median(values);
        let top = STEP * (row as f64 + 1.2);
        let width = value / most * WIDTH;
        let colour = if name.starts_with(OURS) {
            "#2a7"
        } else {
            "#89a"
        };
        let middle = top + 15.0;
        // Writing to a string does not fail.
        let _infallible = writeln!(
            svg,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{LEFT}\" y=\"{top}\" width=\"{width:.1}\" height=\"20\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{middle}\">{value:.1}</text>",
            LEFT - 8.0,
            LEFT + width + 6.0
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_table_and_ratios_favour_the_better() {
        let mut report = Report::default();
        let cell = Cell {
            name: "cost",
            unit: "ns",
            better: Better::Less,
        };
        for (name, values) in [("slow", [30.0, 10.0, 20.0]), (OURS, [9.0, 10.0, 11.0])] {
            for value in values {
                report.add(cell, name, value);
            }
        }
        let text = report.to_string();
        assert!(
            text.contains("20.0  [10.0 .. 30.0]   datapath is 2.00 times as good"),
            "{text}"
        );
    }
}
