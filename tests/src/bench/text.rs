//! Results as text: for the terminal with the spread of the rounds, and as the documentation's tables.

use std::{collections::BTreeSet, fmt};

use super::{
    contender::OURS,
    goals::{Asked, Goal, goals},
    results::{Better, Measurement, PartResult, Point, Results},
};

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (part, result) in &self.0 {
            for measurement in &result.measurements {
                writeln!(f, "\n{part}: {} ({})", measurement.name, terms(measurement))?;
                let sizes = measurement.sizes();
                if sizes.is_empty() {
                    at(f, measurement, None)?;
                }
                for size in sizes {
                    writeln!(f, "  at {}", number(size as f64))?;
                    at(f, measurement, Some(size))?;
                }
            }
        }
        let goals = goals(self);
        if goals.iter().any(|goal| goal.measured.is_some()) {
            writeln!(f, "\ngoals")?;
        }
        for goal in goals.iter().filter(|goal| goal.measured.is_some()) {
            let met = if goal.is_met() == Some(true) {
                "met"
            } else {
                "MISSED"
            };
            let (asked, measured) = words(goal);
            writeln!(f, "  {met:<6} {:<64} {measured:>10} of {asked}", goal.says)?;
        }
        Ok(())
    }
}

/// One line for each contender, with what it makes of ours.
fn at(f: &mut fmt::Formatter<'_>, measurement: &Measurement, size: Option<u64>) -> fmt::Result {
    let ours = measurement.row(OURS).and_then(|row| row.point(size));
    for row in &measurement.contenders {
        let Some(point) = row.point(size) else {
            continue;
        };
        let (low, high) = point.spread();
        let (name, value) = (&row.contender, number(point.median));
        write!(
            f,
            "  {name:<30} {value:>10}  [{} .. {}]",
            number(low),
            number(high)
        )?;
        if let Some(ours) = ours.filter(|ours| row.contender != OURS && ours.median > 0.0) {
            let ratio = match measurement.better {
                Better::Less => point.median / ours.median,
                Better::More => ours.median / point.median,
            };
            write!(f, "   {OURS} is {ratio:.2} times as good")?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn terms(measurement: &Measurement) -> String {
    let better = match measurement.better {
        Better::Less => "less is better",
        Better::More => "more is better",
    };
    let unit = &measurement.unit;
    let between = if unit.is_empty() { "" } else { ", " };
    format!("{unit}{between}{better}")
}

/// A part's tables for the documentation: contenders down, measurements or sizes across.
pub(super) fn tables(part: &PartResult) -> String {
    let machine: Vec<_> = part
        .machine
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let mut text = format!(
        "Medians over {} rounds, and half their spread; {}.\n",
        part.rounds,
        machine.join(", ")
    );
    let (grown, plain): (Vec<_>, Vec<_>) = part
        .measurements
        .iter()
        .partition(|measurement| !measurement.sizes().is_empty());
    let mut groups: Vec<&str> = Vec::new();
    for measurement in &plain {
        let (group, _) = measurement.group_and_name();
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    for group in groups {
        let of_group: Vec<_> = plain
            .iter()
            .copied()
            .filter(|measurement| measurement.group_and_name().0 == group)
            .collect();
        let head: Vec<_> = of_group
            .iter()
            .map(|measurement| {
                let unit = &measurement.unit;
                format!("{} ({unit})", measurement.group_and_name().1)
            })
            .collect();
        let columns: Vec<_> = of_group.iter().map(|one| (*one, None)).collect();
        table(&mut text, group, &head, &columns);
    }
    for measurement in grown {
        let sizes = measurement.sizes();
        let head: Vec<_> = sizes.iter().map(|size| number(*size as f64)).collect();
        let columns: Vec<_> = sizes
            .iter()
            .map(|size| (measurement, Some(*size)))
            .collect();
        let terms = terms(measurement);
        table(
            &mut text,
            &format!("{} ({terms})", measurement.name),
            &head,
            &columns,
        );
    }
    text
}

fn table(text: &mut String, title: &str, head: &[String], columns: &[(&Measurement, Option<u64>)]) {
    *text += &format!("\n| {title} | {} |\n", head.join(" | "));
    *text += &format!("| --- |{}\n", " ---: |".repeat(columns.len()));
    let mut seen = BTreeSet::new();
    let names = columns
        .iter()
        .flat_map(|(measurement, _)| measurement.contenders.iter().map(|row| &row.contender));
    for name in names.filter(|name| seen.insert((*name).clone())) {
        let cells: Vec<_> = columns
            .iter()
            .map(|(measurement, size)| {
                let point = measurement.row(name).and_then(|row| row.point(*size));
                let cell = point.map_or_else(|| "–".to_owned(), with_spread);
                if *name == OURS {
                    format!("**{cell}**")
                } else {
                    cell
                }
            })
            .collect();
        *text += &format!("| {name} | {} |\n", cells.join(" | "));
    }
}

fn with_spread(point: &Point) -> String {
    let (low, high) = point.spread();
    let value = number(point.median);
    if high > low {
        let half = (high - low) / 2.0 / point.median * 100.0;
        format!("{value} ±{half:.0} %")
    } else {
        value
    }
}

/// The promises, as a table for the documentation.
pub(super) fn promises(results: &Results) -> String {
    let mut text = "| | asked | measured | |\n| --- | ---: | ---: | --- |\n".to_owned();
    for goal in goals(results) {
        let met = match goal.is_met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "not measured",
        };
        let (asked, measured) = words(&goal);
        text += &format!("| {} | {asked} | {measured} | {met} |\n", goal.says);
    }
    text
}

/// What was asked, and what was measured.
fn words(goal: &Goal) -> (String, String) {
    let (sign, bound, unit) = match goal.asked {
        Asked::Least(bound, unit) => ("≥", bound, unit),
        Asked::Most(bound, unit) => ("≤", bound, unit),
    };
    let show = |value: f64| {
        if unit == "×" {
            format!("{value:.2} ×")
        } else {
            format!("{} {unit}", number(value))
        }
    };
    let measured = goal.measured.map_or_else(|| "–".to_owned(), show);
    (format!("{sign} {}", show(bound)), measured)
}

/// With as many digits as say something, and a comma for every thousand.
pub(super) fn number(value: f64) -> String {
    if value.abs() < 100.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{contender::Contender, results::Measure},
        *,
    };

    fn results() -> Results {
        let mut part = PartResult::default();
        let cost = Measure::new("cost", "ns", Better::Less);
        for (contender, values) in [
            (Contender::Routed, [30.0, 10.0, 20.0]),
            (Contender::Datapath, [9.0, 10.0, 11.0]),
        ] {
            for value in values {
                part.add(contender, cost.figure(value));
            }
        }
        let mut results = Results::default();
        results.0.insert("part".to_owned(), part);
        results
    }

    #[test]
    fn the_median_stands_in_the_table_and_ratios_favour_the_better() {
        let text = results().to_string();
        let line = "20  [10 .. 30]   datapath is 2.00 times as good";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn the_documentation_has_contenders_down_and_ours_in_bold() {
        let text = tables(&results().0["part"]);
        let lines = "| routed, no NAT | 20 ±50 % |\n| datapath | **10 ±10 %** |\n";
        assert!(text.contains(lines), "{text}");
    }

    #[test]
    fn numbers_are_read_at_a_glance() {
        for (value, text) in [
            (0.0, "0"),
            (9.26, "9.3"),
            (-3.0, "-3"),
            (999.4, "999"),
            (1_048_576.0, "1,048,576"),
            (12_345.6, "12,346"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
