//! How many instructions the kernel's verifier reads of each program, and how many it may: a program that grows out of
//! what the verifier reads is refused by the kernel, and long before that it takes long to load and to run.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use datapath_user::{config::Config, kernel::object};

/// What a program may exceed its budget by, in percent.
pub const MARGIN: u64 = 10;

/// Instructions by program.
pub type Counts = BTreeMap<String, u32>;

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
            let count = program.info()?.verified_instruction_count();
            let count = count.with_context(|| format!("{name}: the kernel does not count"))?;
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
            let entry = line.split_once(' ').and_then(|(name, count)| {
                let count = count.trim().parse().ok()?;
                Some((name.to_owned(), count))
            });
            entry
                .with_context(|| format!("{}: `{line}`: not a program and a count", file.display()))
        })
        .collect()
}

/// Makes these counts the budgets.
///
/// # Errors
/// When the file cannot be written.
pub fn write(counts: &Counts) -> Result<()> {
    let file = file();
    let mut text = "# Instructions that the verifier reads of each program: `cargo xtask bench --budgets` writes them.\n".to_owned();
    for (name, count) in counts {
        writeln!(text, "{name} {count}")?;
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
    let mut text = format!("{:<16} {:>9} {:>9}\n", "program", "verified", "budget");
    let mut any = false;
    for name in names {
        let shown = |counts: &Counts| counts.get(name).map_or("-".to_owned(), u32::to_string);
        let (count, budget) = (counts.get(name), budgets.get(name));
        let (mark, is_over) = match (count, budget) {
            (Some(count), Some(budget)) => {
                let (count, budget) = (u64::from(*count), u64::from(*budget));
                let is_over = count * 100 > budget * (100 + MARGIN);
                let mark = if is_over { "  too many" } else { "" };
                let change = (count as f64 / budget as f64 - 1.0) * 100.0;
                (format!("{change:>+8.1} %{mark}"), is_over)
            }
            (Some(_), None) => ("  has no budget yet".to_owned(), false),
            (None, _) => ("  is not there any more".to_owned(), false),
        };
        any |= is_over;
        text += &format!(
            "{name:<16} {:>9} {:>9}{mark}\n",
            shown(counts),
            shown(budgets)
        );
    }
    (text, any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, u32)]) -> Counts {
        let all = all.iter();
        all.map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn a_tenth_more_is_too_many_and_less_is_welcome() {
        let budgets = counts(&[("a", 1000), ("b", 1000)]);
        for (a, over) in [(1100, false), (1101, true), (10, false)] {
            let (text, any) = compare(&counts(&[("a", a), ("b", 1000)]), &budgets);
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
