//! The reading commands: from the pinned maps, with or without a service.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};
use comfy_table::ContentArrangement;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::output;
use crate::{
    api::client::{Client, Service},
    config::Config,
    kernel::pinned::{Error, Pinned},
    model::AllowList,
    view::Attachment,
};

/// How often `--wait` looks again.
const POLL: Duration = Duration::from_millis(50);

/// Says whether the datapath is active.
pub(super) async fn status(config: &Config, json: bool, wait: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(wait);
    loop {
        let service = Client::new(&config.api_socket).look().await;
        let seen = Pinned::open(&config.pin_dir)
            .and_then(|pinned| Ok((pinned.attachments()?, pinned.is_here()?)));
        let (attachments, here) = match seen {
            Ok((attachments, here)) => (Ok(attachments), here),
            Err(error) => (Err(error), true),
        };
        let starting = service.status().is_some_and(|status| !status.ready);
        let (active, failed) = match &attachments {
            Err(error @ Error::Permission(_)) => (None, Some(error.to_string())),
            _ if starting => (
                Some(false),
                Some("not active: the service is starting".to_owned()),
            ),
            Err(error) => (Some(false), Some(format!("not active: {error}"))),
            Ok(attachments) if attachments.is_empty() => (
                Some(false),
                Some(
                    "not active: nothing is attached; start the service with `datapath run`"
                        .to_owned(),
                ),
            ),
            Ok(_) => (Some(true), None),
        };
        // What may not be seen will not be seen later either.
        if active == Some(false) && Instant::now() < deadline {
            sleep(POLL).await;
            continue;
        }
        let attachments = attachments.unwrap_or_default();
        if json {
            let attached: Vec<Value> = attachments
                .iter()
                .map(|at| json!({"program": at.program, "interface": at.target, "hook": at.hook}))
                .collect();
            output::json(
                &json!({"active": active, "attachments": attached, "service": service.status()}),
            )?;
        } else {
            output::line(&describe(&attachments, &service))?;
            if !here {
                output::line(
                    "seen from another network namespace than it serves: interfaces are shown by their numbers there",
                )?;
            }
        }
        return match failed {
            None => Ok(()),
            Some(reason) => bail!("{reason}"),
        };
    }
}

fn describe(attachments: &[Attachment], service: &Service) -> String {
    let mut lines: Vec<_> = attachments
        .iter()
        .map(|at| format!("{} on {} ({})", at.program, at.target, at.hook))
        .collect();
    match service {
        Service::Answers(status) => {
            lines.push(format!("service: process {}", status.pid));
            lines.push(format!("forwarding: {}", status.forwarding));
            lines.extend(status.xdp.iter().map(|level| {
                format!(
                    "XDP: {} on {} ({})",
                    level.mode, level.uplink, level.because
                )
            }));
            let problems = status.problems.iter();
            lines.extend(problems.map(|problem| format!("problem: {problem}")));
        }
        Service::Absent if attachments.is_empty() => lines.push("service: not running".to_owned()),
        Service::Absent => {
            lines.push("service: not running; the datapath works without it".to_owned());
        }
        Service::Unknown(why) => lines.push(format!("service: {why}")),
    }
    lines.join("\n")
}

/// Lists the published ports.
pub(super) fn ports(pin_dir: &Path, json: bool) -> Result<()> {
    let ports = Pinned::open(pin_dir)?.ports()?;
    if json {
        let all: Vec<Value> = ports
            .iter()
            .map(|port| {
                let publication = &port.publication;
                json!({
                    "address": publication.listen.addr,
                    "port": publication.listen.port,
                    "protocol": publication.listen.protocol,
                    "to_address": publication.to,
                    "to_port": publication.to_port,
                    "source": publication.source.name(),
                    "owner": publication.owner,
                    "allow": publication.allow.as_ref().map(AllowList::networks),
                    "packets": port.stats.packets,
                    "bytes": port.stats.bytes,
                    "flows": port.stats.flows,
                    "refused": port.stats.refused,
                })
            })
            .collect();
        return output::json(&json!({ "ports": all }));
    }
    let header = [
        "LISTEN", "TO", "OWNER", "ALLOW", "FLOWS", "PACKETS", "BYTES", "REFUSED",
    ];
    let mut table = output::table(&header, 4..8);
    for port in &ports {
        let publication = &port.publication;
        table.add_row([
            publication.listen.to_string(),
            publication.target().to_string(),
            publication.owner.clone(),
            let_in(publication.allow.as_ref()),
            port.stats.flows.to_string(),
            port.stats.packets.to_string(),
            port.stats.bytes.to_string(),
            port.stats.refused.to_string(),
        ]);
    }
    output::line(&table.trim_fmt())
}

/// Who may ask.
fn let_in(list: Option<&AllowList>) -> String {
    list.map_or_else(|| "everybody".to_owned(), ToString::to_string)
}

/// Counts packets by reason.
pub(super) fn stats(pin_dir: &Path, json: bool) -> Result<()> {
    let pinned = Pinned::open(pin_dir)?;
    let (reasons, fill) = (pinned.reasons()?, pinned.fill()?);
    if json {
        let reasons: Vec<Value> = reasons
            .iter()
            .map(|(reason, count)| {
                json!({"reason": reason.name(), "outcome": reason.outcome().name(),
                       "packets": count.packets, "bytes": count.bytes})
            })
            .collect();
        let maps: Vec<Value> = fill
            .iter()
            .map(|map| json!({"map": map.name, "used": map.used, "max": map.max}))
            .collect();
        return output::json(&json!({"reasons": reasons, "maps": maps}));
    }
    let header = ["REASON", "OUTCOME", "PACKETS", "BYTES", "MEANING"];
    let mut counters = output::table(&header, 2..4);
    // Sentences go on below themselves where the terminal is too narrow for them.
    counters.set_content_arrangement(ContentArrangement::Dynamic);
    for (reason, count) in reasons.iter().filter(|(_, count)| count.packets > 0) {
        counters.add_row([
            reason.name().to_owned(),
            reason.outcome().name().to_owned(),
            count.packets.to_string(),
            count.bytes.to_string(),
            reason.meaning().to_owned(),
        ]);
    }
    let mut maps = output::table(&["MAP", "USED", "MAX"], 1..3);
    for map in &fill {
        maps.add_row([
            map.name.to_owned(),
            map.used.to_string(),
            map.max.to_string(),
        ]);
    }
    output::line(&format!("{}\n\n{}", counters.trim_fmt(), maps.trim_fmt()))
}
