//! `datapath doctor`: the findings, and what to do in which order.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::json;

use super::output;
use crate::{
    config::{Config, ConfigError},
    doctor::{Finding, State, Subject, examine},
};

/// Looks, and says what was found. `path` is the configuration's file, if one was named, and `fault` what is wrong with
/// it.
pub(super) async fn exec(
    config: Config,
    path: Option<PathBuf>,
    fault: Option<ConfigError>,
    json: bool,
) -> Result<()> {
    let findings = examine(&Subject::look(config, path, fault).await);
    let todo = findings
        .iter()
        .filter(|finding| finding.state == State::Todo)
        .count();
    if json {
        output::json(&json!({"fine": todo == 0, "findings": findings}))?;
    } else {
        output::line(&describe(&findings))?;
    }
    match todo {
        0 => Ok(()),
        1 => bail!("one thing has to be done"),
        several => bail!("{several} things have to be done"),
    }
}

fn describe(findings: &[Finding]) -> String {
    let width = findings
        .iter()
        .map(|finding| finding.check.len())
        .max()
        .unwrap_or(0);
    let mut lines: Vec<_> = findings
        .iter()
        .map(|finding| {
            let (state, check) = (finding.state.name(), finding.check);
            format!("{state}  {check:width$}  {}", finding.says)
        })
        .collect();
    let steps = findings
        .iter()
        .filter(|finding| finding.state == State::Todo)
        .filter_map(|finding| Some((finding.check, finding.remedy.as_ref()?)));
    for (number, (check, remedy)) in (1..).zip(steps) {
        if number == 1 {
            lines.push("\nTo do, in this order:".to_owned());
        }
        lines.push(format!("{number:>3}. {check}: {remedy}"));
    }
    lines.join("\n")
}
