//! The reading commands: from the pinned maps, with or without a service.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};
use comfy_table::Table;
use datapath_common::{proto, reason::Outcome};
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    api::{client::Client, types::Status},
    config::Config,
    kernel::pinned::Pinned,
    view::Half,
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
            print(&json!({"active": active, "attachments": attached, "service": service}))?;
        } else {
            for at in &attachments {
                anstream::println!("{} on {} ({})", at.program, at.target, at.hook);
            }
            match &service {
                Some(status) => anstream::println!("service: process {}", status.pid),
                None => anstream::println!("service: not running; the datapath works without it"),
            }
            if let Some(Status { forwarding, .. }) = &service {
                anstream::println!(
                    "forwarding: IPv4 {}, IPv6 {}",
                    forwarding.ipv4,
                    forwarding.ipv6
                );
            }
            for problem in service.iter().flat_map(|status| &status.problems) {
                anstream::println!("problem: {problem}");
            }
        }
        return match failed {
            None => Ok(()),
            Some(reason) => bail!("not active: {reason}"),
        };
    }
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
                    "packets": port.stats.packets,
                    "bytes": port.stats.bytes,
                    "flows": port.stats.flows,
                })
            })
            .collect();
        return print(&json!({ "ports": all }));
    }
    let mut table = table(&["LISTEN", "TO", "OWNER", "FLOWS", "PACKETS", "BYTES"]);
    for port in &ports {
        let publication = &port.publication;
        table.add_row([
            publication.listen.to_string(),
            std::net::SocketAddr::new(publication.to, publication.to_port).to_string(),
            publication.owner.clone(),
            port.stats.flows.to_string(),
            port.stats.packets.to_string(),
            port.stats.bytes.to_string(),
        ]);
    }
    anstream::println!("{table}");
    Ok(())
}

/// Lists the flows.
pub(super) fn flows(pin_dir: &Path, json: bool) -> Result<()> {
    let flows = Pinned::open(pin_dir)?.flows()?;
    let mut all = Vec::new();
    for flow in &flows {
        let name = proto::name(flow.protocol).unwrap_or("unknown");
        let state = flow.state.map(|state| state.name());
        if json {
            all.push(json!({
                "protocol": name,
                "state": state,
                "original": half_json(&flow.original),
                "reply": half_json(&flow.reply),
                "answered": flow.answered,
                "assured": flow.assured,
                "published": flow.published,
                "timeout": flow.remaining.as_secs(),
            }));
            continue;
        }
        let mark = if flow.answered { "" } else { " [UNREPLIED]" };
        let assured = if flow.assured { " [ASSURED]" } else { "" };
        anstream::println!(
            "{name:<8} {} {} {}{mark} {}{assured}",
            flow.remaining.as_secs(),
            state.unwrap_or("-"),
            half_text(&flow.original),
            half_text(&flow.reply),
        );
    }
    if json {
        return print(&json!({ "flows": all }));
    }
    Ok(())
}

/// Counts packets by reason.
pub(super) fn stats(pin_dir: &Path, json: bool) -> Result<()> {
    let pinned = Pinned::open(pin_dir)?;
    let (reasons, fill) = (pinned.reasons()?, pinned.fill()?);
    let outcome = |outcome: Outcome| match outcome {
        Outcome::Translate => "translate",
        Outcome::Pass => "pass",
        Outcome::Drop => "drop",
    };
    if json {
        let reasons: Vec<Value> = reasons
            .iter()
            .map(|(reason, count)| {
                json!({"reason": reason.name(), "outcome": outcome(reason.outcome()),
                       "packets": count.packets, "bytes": count.bytes})
            })
            .collect();
        let maps: Vec<Value> = fill
            .iter()
            .map(|map| json!({"map": map.name, "used": map.used, "max": map.max}))
            .collect();
        return print(&json!({"reasons": reasons, "maps": maps}));
    }
    let mut counters = table(&["REASON", "OUTCOME", "PACKETS", "BYTES", "MEANING"]);
    for (reason, count) in reasons.iter().filter(|(_, count)| count.packets > 0) {
        counters.add_row([
            reason.name().to_owned(),
            outcome(reason.outcome()).to_owned(),
            count.packets.to_string(),
            count.bytes.to_string(),
            reason.meaning().to_owned(),
        ]);
    }
    anstream::println!("{counters}\n");
    let mut maps = table(&["MAP", "USED", "MAX"]);
    for map in &fill {
        maps.add_row([
            map.name.to_owned(),
            map.used.to_string(),
            map.max.to_string(),
        ]);
    }
    anstream::println!("{maps}");
    Ok(())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.set_header(header.to_vec());
    table
}

fn print(value: &Value) -> Result<()> {
    anstream::println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

fn half_text(half: &Half) -> String {
    format!(
        "src={} dst={} sport={} dport={} packets={} bytes={}",
        half.src, half.dst, half.sport, half.dport, half.packets, half.bytes
    )
}

fn half_json(half: &Half) -> Value {
    json!({"src": half.src, "dst": half.dst, "sport": half.sport, "dport": half.dport,
           "packets": half.packets, "bytes": half.bytes})
}
