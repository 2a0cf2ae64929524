//! How much of each program there is, and how much there may be: instructions that the kernel's verifier reads, whose
//! number is bounded and without which nothing loads; and instructions that are left to run. Either is the same whenever
//! it is counted, which no time of a run is, and what runs for each packet are those of a straight way through them.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use datapath_user::{config::Config, kernel::object};

/// What a program may exceed its budget by, in percent.
pub const MARGIN: u64 = 10;
/// Bytes of an instruction.
const INSTRUCTION: u32 = 8;

/// A program's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Those that the verifier reads, each as often as it does.
    pub verified: u32,
    /// Those that there are when it is done, of all functions.
    pub instructions: u32,
}

/// Instructions by program.
pub type Counts = BTreeMap<String, Count>;

/// The file that has the budgets.
#[must_use]
pub fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/programs/verified.txt")
}

/// Loads all programs, below pins of their own that are removed at once, and asks the kernel. Nothing is attached.
///
/// # Errors
/// When the kernel refuses them, or does not count (before Linux 5.16).
pub fn count() -> Result<Counts> {
    let pins = PathBuf::from(format!("/sys/fs/bpf/dp{}budgets", std::process::id()));
    let config = Config {
        pin_dir: pins.clone(),
        ..Config::default()
    };
    let loaded = object::load(&config);
    let removed = fs::remove_dir_all(&pins);
    let loaded = loaded?;
    removed.with_context(|| format!("{}", pins.display()))?;
    loaded
        .programs()
        .map(|(name, program)| {
            let info = program.info()?;
            let (verified, bytes) = (info.verified_instruction_count(), info.size_translated());
            let verified =
                verified.with_context(|| format!("{name}: the kernel does not count"))?;
            let bytes = bytes.with_context(|| format!("{name}: the kernel shows no program"))?;
            let instructions = bytes / INSTRUCTION;
            let count = Count {
                verified,
                instructions,
            };
            Ok((name.to_owned(), count))
        })
        .collect()
}

/// The budgets.
///
/// # Errors
/// When the file makes no sense.
pub fn read() -> Result<Counts> {
    let file = file();
    let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let entry = match words[..] {
                [name, verified, instructions] => {
                    verified.parse().ok().zip(instructions.parse().ok()).map(
                        |(verified, instructions)| {
                            let count = Count {
                                verified,
                                instructions,
                            };
                            (name.to_owned(), count)
                        },
                    )
                }
                _ => None,
            };
            entry.with_context(|| {
                format!("{}: `{line}`: not a program and two counts", file.display())
            })
        })
        .collect()
}

/// Makes these counts the budgets.
///
/// # Errors
/// When the file cannot be written.
pub fn write(counts: &Counts) -> Result<()> {
    let file = file();
    let mut text = "# Instructions that the verifier reads of each program, and those that it has in the end: `cargo xtask bench \
                    --budgets` writes them.\n"
        .to_owned();
    for (name, count) in counts {
        writeln!(text, "{name} {} {}", count.verified, count.instructions)?;
    }
    fs::write(&file, text).with_context(|| format!("{}", file.display()))
}

/// Both beside each other, for people. Returns whether a program exceeds its budget by more than [`MARGIN`]; a program
/// without budget, or a budget without program, is only marked.
#[must_use]
pub fn compare(counts: &Counts, budgets: &Counts) -> (String, bool) {
    let mut names: Vec<_> = counts.keys().chain(budgets.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let mut text = format!(
        "{:<16} {:>9} {:>9} {:>9}   {:>12} {:>9}\n",
        "program", "verified", "budget", "", "instructions", "budget"
    );
    let mut any = false;
    for name in names {
        let (count, budget) = (counts.get(name), budgets.get(name));
        let columns = [
            |count: &Count| count.verified,
            |count: &Count| count.instructions,
        ];
        let [verified, instructions] = columns.map(|of| {
            let (cell, is_over) = compared(count.map(of), budget.map(of));
            any |= is_over;
            cell
        });
        text += &format!("{name:<16} {verified}   {instructions}\n");
    }
    (text, any)
}

/// One count beside its budget, and whether it exceeds that.
fn compared(count: Option<u32>, budget: Option<u32>) -> (String, bool) {
    let shown = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
    let (mark, is_over) = match (count, budget) {
        (Some(count), Some(budget)) => {
            let (count, budget) = (u64::from(count), u64::from(budget));
            let is_over = count * 100 > budget * (100 + MARGIN);
            let mark = if is_over { "  too many" } else { "" };
            let change = (count as f64 / budget as f64 - 1.0) * 100.0;
            (format!("{change:>+7.1} %{mark}"), is_over)
        }
        (Some(_), None) => ("  has no budget yet".to_owned(), false),
        (None, _) => ("  is not there any more".to_owned(), false),
    };
    let text = format!("{:>9} {:>9}{mark}", shown(count), shown(budget));
    (text, is_over)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, u32)]) -> Counts {
        let all = all.iter();
        all.map(|(name, count)| {
            let count = Count {
                verified: *count,
                instructions: 100,
            };
            ((*name).to_owned(), count)
        })
        .collect()
    }

    #[test]
    fn a_tenth_more_is_too_many_and_less_is_welcome() {
        let budgets = counts(&[("a", 1000), ("b", 1000)]);
        for (a, over) in [(1100, false), (1101, true), (10, false)] {
            let (text, any) = compare(&counts(&[("a", a), ("b", 1000)]), &budgets);
            assert_eq!(any, over, "{text}");
        }
        for (instructions, over) in [(110, false), (111, true)] {
            let mut more = budgets.clone();
            more.get_mut("a").unwrap().instructions = instructions;
            let (text, any) = compare(&more, &budgets);
            assert_eq!(any, over, "{text}");
        }
    }

    #[test]
    fn a_program_without_budget_and_a_budget_without_program_are_marked() {
        let one = counts(&[("a", 1)]);
        let (text, over) = compare(&one, &Counts::new());
        assert!(text.contains("no budget yet") && !over, "{text}");
        let (text, over) = compare(&Counts::new(), &one);
        assert!(text.contains("not there any more") && !over, "{text}");
    }
}
