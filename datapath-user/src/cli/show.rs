//! The reading commands: from the pinned maps, with or without a service.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::output;
use crate::{
    api::{client::Client, types::Status},
    config::Config,
    kernel::pinned::Pinned,
    model::AllowList,
    view::Attachment,
};

/// How often `--wait` looks again.
const POLL: Duration = Duration::from_millis(50);

/// Says whether the datapath is active.
pub(super) async fn status(config: &Config, json: bool, wait: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(wait);
    loop {
        let service: Option<Status> = Client::new(&config.api_socket)
            .send(Method::GET, "/v1/status", &())
            .await
            .ok();
        let attachments = Pinned::open(&config.pin_dir).and_then(|pinned| pinned.attachments());
        let starting = service.as_ref().is_some_and(|status| !status.ready);
        let failed = match &attachments {
            Ok(attachments) if !attachments.is_empty() && !starting => None,
            Ok(_) => Some("nothing is attached; start the service with `datapath run`".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if failed.is_some() && Instant::now() < deadline {
            sleep(POLL).await;
            continue;
        }
        let attachments = attachments.unwrap_or_default();
        if json {
            let attached: Vec<Value> = attachments
                .iter()
                .map(|at| json!({"program": at.program, "interface": at.target, "hook": at.hook}))
                .collect();
            let active = failed.is_none();
            output::json(&json!({"active": active, "attachments": attached, "service": service}))?;
        } else {
            output::line(&describe(&attachments, service.as_ref()))?;
        }
        return match failed {
            None => Ok(()),
            Some(reason) => bail!("not active: {reason}"),
        };
    }
}

fn describe(attachments: &[Attachment], service: Option<&Status>) -> String {
    let mut lines: Vec<_> = attachments
        .iter()
        .map(|at| format!("{} on {} ({})", at.program, at.target, at.hook))
        .collect();
    match service {
        Some(Status {
            pid,
            forwarding,
            xdp,
            problems,
            ..
        }) => {
            lines.push(format!("service: process {pid}"));
            lines.push(format!("forwarding: {forwarding}"));
            lines.extend(xdp.iter().map(|level| {
                format!(
                    "XDP: {} on {} ({})",
                    level.mode, level.uplink, level.because
                )
            }));
            lines.extend(problems.iter().map(|problem| format!("problem: {problem}")));
        }
        None => lines.push("service: not running; the datapath works without it".to_owned()),
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
                    "source": format!("{:?}", publication.source).to_lowercase(),
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
    let mut table = output::table(&[
        "LISTEN", "TO", "OWNER", "ALLOW", "FLOWS", "PACKETS", "BYTES", "REFUSED",
    ]);
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
    output::line(&table.to_string())
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
    let mut counters = output::table(&["REASON", "OUTCOME", "PACKETS", "BYTES", "MEANING"]);
    for (reason, count) in reasons.iter().filter(|(_, count)| count.packets > 0) {
        counters.add_row([
            reason.name().to_owned(),
            reason.outcome().name().to_owned(),
            count.packets.to_string(),
            count.bytes.to_string(),
            reason.meaning().to_owned(),
        ]);
    }
    let mut maps = output::table(&["MAP", "USED", "MAX"]);
    for map in &fill {
        maps.add_row([
            map.name.to_owned(),
            map.used.to_string(),
            map.max.to_string(),
        ]);
    }
    output::line(&format!("{counters}\n\n{maps}"))
}
