//! The command line: one module for each group of commands.

mod change;
mod detach;
mod docker_config;
mod doctor;
mod explain;
mod flows;
mod generate;
mod monitor;
mod output;
mod progress;
mod show;
mod top;

pub use self::output::is_closed;

use std::{io::IsTerminal as _, path::PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::{
    config::{
        Config,
        ports::{HostPorts, PublishArg},
    },
    descriptors, service,
};

/// What was asked makes no sense, which only the arguments together tell: the exit status is that of wrong usage.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

/// The options that every command has, apart from its own in the help.
const GLOBAL: &str = "Global options";

/// Docker's port publishing and masquerade in the kernel, without iptables or docker-proxy.
#[derive(Debug, Parser)]
#[command(
    name = "datapath",
    version,
    after_help = "Examples:\n  datapath run\n  datapath publish 8080:80 --to 172.17.0.2\n  datapath ports\n\n\
    Reading commands need no running service: they read the pinned maps.\n\
    Exit status: 0 done, 1 failed, 2 wrong usage."
)]
pub struct Cli {
    /// Directory of bpffs that everything is pinned under [default: the configuration's, else
    /// /sys/fs/bpf/datapath].
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    pin_dir: Option<PathBuf>,
    /// The service's Unix socket [default: the configuration's, else /run/datapath/api.sock].
    #[arg(long, global = true, value_name = "PATH", help_heading = GLOBAL)]
    api_socket: Option<PathBuf>,
    /// Configuration file [default: /etc/datapath/datapath.toml, if there is one].
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    config: Option<PathBuf>,
    /// Log more (`datapath run`; the other commands log nothing).
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = GLOBAL)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service in the foreground. Ending it leaves the datapath working.
    #[command(after_help = "Examples:\n  datapath run\n  \
        datapath run --config ./datapath.toml --verbose\n\n\
        SIGHUP reads the configuration again; SIGTERM and SIGINT end the service.")]
    Run,
    /// Say what is attached where, and whether the service lives. Status 0 when the datapath is active.
    #[command(after_help = "Examples:\n  datapath status\n  datapath status --wait 30 --json")]
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Wait up to this many seconds for it to become active.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        wait: u64,
    },
    /// Publish a port, as `docker run -p` does. It outlives the service, until it is withdrawn.
    #[command(
        after_help = "Examples:\n  datapath publish 8080:80 --to 172.17.0.2\n  \
        datapath publish 203.0.113.2:7000-7009:7000-7009/udp --to 172.17.0.3\n  \
        datapath publish 5432:5432 --to 172.17.0.4 --allow 203.0.113.0/24,198.51.100.7"
    )]
    Publish {
        /// [IP:]PORT[-END]:CPORT[-END][/tcp|udp]. Without IP: every address of the host, of the endpoint's family.
        port: PublishArg,
        /// The endpoint's address.
        #[arg(long, value_name = "ADDRESS", value_parser = change::address)]
        to: std::net::IpAddr,
        /// Answer these networks alone (and the host itself), not everybody.
        #[arg(long, value_name = "NETWORK", value_delimiter = ',', value_parser = change::network)]
        allow: Vec<String>,
    },
    /// Say who may ask for a port that `publish` published. Flows of others end at once, those of the named go on.
    #[command(
        after_help = "Examples:\n  datapath allow 5432 203.0.113.0/24 198.51.100.7\n  \
        datapath allow 5432 everybody"
    )]
    Allow {
        /// [IP:]PORT[-END][/tcp|udp], as it was published. Without IP: 0.0.0.0; of IPv6 that is [::].
        port: HostPorts,
        /// The networks, or `everybody`. They take the place of those named before.
        #[arg(value_name = "NETWORK", value_delimiter = ',', required = true, value_parser = change::network_or_everybody)]
        networks: Vec<String>,
    },
    /// Withdraw a port that `publish` published. Its flows end at once.
    #[command(
        after_help = "Examples:\n  datapath unpublish 8080\n  datapath unpublish 203.0.113.2:7000-7009/udp"
    )]
    Unpublish {
        /// [IP:]PORT[-END][/tcp|udp], as it was published. Without IP: 0.0.0.0; of IPv6 that is [::].
        port: HostPorts,
    },
    /// List the published ports.
    #[command(after_help = "Examples:\n  datapath ports\n  datapath ports --json")]
    Ports {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the flows, in the terms of `conntrack -L`.
    #[command(
        after_help = "Examples:\n  datapath flows --proto tcp --state ESTABLISHED --src 203.0.113.0/24\n  \
        datapath flows flush --binding 8080"
    )]
    Flows(Box<flows::Flows>),
    /// Show packets as they are dropped, with the reason.
    #[command(
        after_help = "Examples:\n  datapath monitor --reason unpublished --interface eth0\n  \
        datapath monitor --json --count 100"
    )]
    Monitor(monitor::Monitor),
    /// Say what would happen to a packet, by running a copy of the programs on it. Nothing is changed by it.
    #[command(
        after_help = "Examples:\n  datapath explain tcp 203.0.113.9 203.0.113.2:8080\n  \
        datapath explain udp 172.17.0.2:5353 198.51.100.7:53 --in docker0\n  \
        datapath explain icmp 172.17.0.2 203.0.113.9 --json"
    )]
    Explain(explain::Explain),
    /// Watch ports, flows and drops as they go, in a terminal. It needs no service.
    #[command(
        after_help = "Examples:\n  datapath top\n\nKeys: q quit, tab next view, s sort, f filter, p pause, up and down scroll.\n\
        Rates are those since the last look."
    )]
    Top(top::Top),
    /// Count packets by reason, and say how full the maps are.
    #[command(after_help = "Examples:\n  datapath stats\n  datapath stats --json")]
    Stats {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say what this host offers, lacks, or has in the way, and what to do in which order. Changes nothing.
    #[command(
        after_help = "Examples:\n  datapath doctor\n  datapath doctor --json\n\nExit status: 0 nothing has to be done, 1 something has to.\n\
        It works without a service, and without root as far as that goes."
    )]
    Doctor {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make Docker leave published ports and masquerade to datapath: show what daemon.json has to say, or write it.
    #[command(after_help = docker_config::HELP)]
    DockerConfig(docker_config::DockerConfig),
    /// Print a shell's completion script.
    #[command(
        after_help = "Examples:\n  datapath completions bash > /usr/share/bash-completion/completions/datapath\n  \
        datapath completions zsh > /usr/share/zsh/site-functions/_datapath"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory.
    #[command(
        hide = true,
        after_help = "Examples:\n  datapath man /usr/share/man/man1"
    )]
    Man {
        /// The directory.
        dir: PathBuf,
    },
    /// Take every program, map and pin out of the kernel. A service that runs is ended.
    #[command(after_help = "Examples:\n  datapath detach")]
    Detach,
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// When it could not be done: one chain, which names the field, the value and the remedy.
    pub fn exec(self) -> Result<()> {
        let loaded = Config::load_or_default(self.config.as_deref());
        let fault = loaded.as_ref().err().cloned();
        // Two are for hosts where not all is well, and two ask for nothing that the file says.
        let calm = matches!(
            self.command,
            Command::Doctor { .. }
                | Command::DockerConfig(_)
                | Command::Completions { .. }
                | Command::Man { .. }
        );
        let mut config = if calm {
            loaded.unwrap_or_default()
        } else {
            loaded?
        };
        if let Some(dir) = self.pin_dir {
            config.pin_dir = dir;
        }
        if let Some(socket) = self.api_socket {
            config.api_socket = socket;
        }
        match self.command {
            Command::Run => {
                log(self.verbose);
                let prepared = service::prepare(&config)?;
                service_runtime()?.block_on(service::run(prepared, config, self.config))
            }
            Command::Status { json, wait } => {
                runtime()?.block_on(show::status(&config, json, wait))
            }
            Command::Publish { port, to, allow } => {
                runtime()?.block_on(change::publish(&config, &port, to, allow))
            }
            Command::Allow { port, networks } => {
                runtime()?.block_on(change::allow(&config, &port, networks))
            }
            Command::Unpublish { port } => runtime()?.block_on(change::unpublish(&config, &port)),
            Command::Ports { json } => show::ports(&config.pin_dir, json),
            Command::Flows(flows) => flows.exec(&config.pin_dir),
            Command::Monitor(monitor) => runtime()?.block_on(monitor.exec(&config.pin_dir)),
            Command::Doctor { json } => {
                runtime()?.block_on(doctor::exec(config, self.config, fault, json))
            }
            Command::DockerConfig(docker_config) => docker_config.exec(),
            Command::Explain(explain) => runtime()?.block_on(explain.exec(&config.pin_dir)),
            Command::Top(top) => runtime()?.block_on(top.exec(&config.pin_dir)),
            Command::Completions { shell } => generate::completions(shell),
            Command::Man { dir } => generate::man(&dir),
            Command::Stats { json } => show::stats(&config.pin_dir, json),
            Command::Detach => runtime()?.block_on(detach::exec(&config)),
        }
    }
}

/// For a command: it asks one thing after the other, and threads would only take turns. Without descriptors it does not
/// fail, but panics.
fn runtime() -> Result<Runtime> {
    descriptors::require("this command", descriptors::COMMAND)?;
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// For the service: its clients are served while it works.
fn service_runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

fn log(verbose: u8) {
    let level = if verbose > 0 { "debug" } else { "info" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    // In a journal or a file colours are noise; and whoever says NO_COLOR means it (no-color.org).
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = !refused && std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .init();
}
