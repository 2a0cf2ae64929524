//! `flows`: the conntrack entries, listed and flushed.

pub(super) mod filter;
mod text;

use std::{
    io::{IsTerminal as _, Write as _},
    path::Path,
};

use anyhow::Result;
use clap::{Args, Subcommand};

use self::{
    filter::Filter,
    text::{Line, Object, bindings},
};
use super::{output, progress::Progress};
use crate::kernel::pinned::Pinned;

/// What is counted while it takes long.
const SEEN: &str = "flows looked at";

/// What `flows` takes.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Flows {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// End flows, all of them or those that a filter names. A connection that goes on has to be opened anew.
    #[command(
        after_help = "Examples:\n  datapath flows flush --binding 8080\n  datapath flows flush --proto udp --src 203.0.113.0/24"
    )]
    Flush {
        #[command(flatten)]
        filter: Filter,
    },
}

impl Flows {
    /// Does what was asked.
    pub(super) fn exec(self, pin_dir: &Path) -> Result<()> {
        let pinned = Pinned::open(pin_dir)?;
        match self.action {
            Some(Action::Flush { filter }) => flush(&pinned, filter),
            None => list(&pinned, self.filter, self.json),
        }
    }
}

/// A flow is printed as it is read: a million of them take no memory, and `head` ends it at once.
fn list(pinned: &Pinned, mut filter: Filter, json: bool) -> Result<()> {
    let ports = pinned.ports()?;
    filter.resolve(&ports);
    let bindings = bindings(
        ports
            .iter()
            .map(|port| (port.slot, port.publication.listen)),
    );
    let mut out = output::stdout();
    let mut count = 0u64;
    if json {
        out.write_all(b"{\"flows\": [")?;
    }
    let progress = Progress::new(SEEN, false);
    pinned.flows()?.each(
        |flow| {
            progress.step();
            filter.holds(flow)
        },
        |flow| {
            if json {
                out.write_all(if count == 0 { b"\n" } else { b",\n" })?;
                serde_json::to_writer(&mut out, &Object::new(&flow, &bindings))?;
            } else {
                writeln!(out, "{}", Line(&flow))?;
            }
            count += 1;
            Ok(())
        },
    )?;
    drop(progress);
    if json {
        out.write_all(b"\n]}\n")?;
    }
    out.flush()?;
    // As conntrack does, but where it helps somebody.
    if std::io::stdout().is_terminal() && !json {
        anstream::eprintln!("{count} flows");
    }
    Ok(())
}

fn flush(pinned: &Pinned, mut filter: Filter) -> Result<()> {
    filter.resolve(&pinned.ports()?);
    let progress = Progress::new(SEEN, true);
    let flows = pinned.flows()?.flush(|flow| {
        progress.step();
        filter.holds(flow)
    })?;
    drop(progress);
    output::line(&format!("flushed {flows} flows"))
}
