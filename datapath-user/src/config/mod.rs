//! The configuration: what the file says, checked, as plain data.
//!
//! `ports` reads addresses with ports as people write them; the command line and the API use it too.

mod duration;
mod file;
mod network;
pub mod ports;
pub mod publish;
mod table;

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use self::ports::Fault;
use datapath_common::{conntrack::timeouts::Timeouts, ports::PortRange};

use crate::model::{Network, Publication};

/// Where the configuration is looked for when nobody names a file.
pub const DEFAULT_PATH: &str = "/etc/datapath/datapath.toml";

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Directory of bpffs that maps, programs and links are pinned under.
    pub pin_dir: PathBuf,
    /// The API's Unix socket.
    pub api_socket: PathBuf,
    /// The interfaces that lead outside.
    pub uplinks: Uplinks,
    /// How classifiers are attached to interfaces.
    pub attach: Attach,
    /// How XDP is used on them.
    pub xdp: XdpMode,
    /// How packets of flows are sent on.
    pub forwarding: Forwarding,
    /// Docker as a source.
    pub docker: Docker,
    /// The networks that the file names.
    pub networks: Vec<Network>,
    /// The ports that the file publishes: ranges as one entry for each port.
    pub publications: Vec<Publication>,
    /// Masquerade.
    pub nat: Nat,
    /// Connection tracking.
    pub conntrack: Conntrack,
    /// Where Prometheus may ask; nowhere unless it is said.
    pub metrics: Option<SocketAddr>,
}

/// The interfaces that lead outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Uplinks {
    /// Those that routes outside the networks use.
    #[default]
    Auto,
    /// These.
    Named(Vec<String>),
}

/// How classifiers are attached to interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attach {
    /// By TCX where the kernel has it, else by clsact.
    #[default]
    Auto,
    /// By links to the TCX hooks.
    Tcx,
    /// By filters of clsact.
    Clsact,
}

/// How XDP is used on uplinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// Native where nothing is lost by it, else not at all (`reconcile::xdp` judges).
    #[default]
    Auto,
    /// Native wherever the driver runs such programs.
    Native,
    /// In the kernel's generic hook: for trying out.
    Generic,
    /// Not at all.
    Off,
}

/// How packets of flows are sent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// Past the stack, unless rules of the host's own stand on the way through it.
    #[default]
    Auto,
    /// Past the stack, whatever rules there are.
    Fast,
    /// Through the stack.
    Kernel,
}

/// Docker as a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Docker {
    /// Whether to follow it; `None` means when the socket exists.
    pub enabled: Option<bool>,
    /// The engine's socket.
    pub socket: PathBuf,
}

/// Masquerade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat {
    /// Source ports that masquerade may take when the flow's own is not free.
    pub ports: PortRange,
    /// TCP mappings are endpoint-independent.
    pub independent_tcp: bool,
    /// UDP mappings are endpoint-independent.
    pub independent_udp: bool,
    /// Mappings of ICMP queries are endpoint-independent.
    pub independent_icmp: bool,
}

/// Connection tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// How many established flows of one family are kept.
    pub max_flows: u32,
    /// How long idle flows are kept.
    pub timeouts: Timeouts,
    /// How often the memory of expired ones is given back.
    pub gc_interval: Duration,
    /// How many flows an endpoint may have opened at a time; 0 for any number.
    pub max_flows_per_endpoint: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pin_dir: PathBuf::from("/sys/fs/bpf/datapath"),
            api_socket: PathBuf::from("/run/datapath/api.sock"),
            uplinks: Uplinks::default(),
            attach: Attach::default(),
            xdp: XdpMode::default(),
            forwarding: Forwarding::default(),
            docker: Docker::default(),
            networks: Vec::new(),
            publications: Vec::new(),
            nat: Nat::default(),
            conntrack: Conntrack::default(),
            metrics: None,
        }
    }
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            enabled: None,
            socket: PathBuf::from("/var/run/docker.sock"),
        }
    }
}

impl Default for Nat {
    fn default() -> Self {
        Self {
            ports: PortRange::DEFAULT,
            independent_tcp: false,
            independent_udp: true,
            independent_icmp: true,
        }
    }
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            max_flows: 262_144,
            timeouts: Timeouts::DEFAULT,
            gc_interval: Duration::from_secs(30),
            max_flows_per_endpoint: 0,
        }
    }
}

/// What is wrong with a configuration file, in one line: file, line, key, value and remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    path: PathBuf,
    line: Option<usize>,
    message: String,
}

impl ConfigError {
    fn new(path: &Path, line: Option<usize>, message: impl fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.to_string(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or something in it is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|error| ConfigError::new(path, None, format!("cannot be read: {error}")))?;
        Self::parse(path, &text)
    }

    /// Reads a file's text. `path` is what complaints call it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        file::parse(path, text)
    }

    /// Reads the file that was named, else the default one, which need not exist.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_or_default(path: Option<&Path>) -> Result<Self, ConfigError> {
        let default = Path::new(DEFAULT_PATH);
        match (path, fs::metadata(default)) {
            (Some(path), _) => Self::load(path),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            (None, _) => Self::load(default),
        }
    }
}

/// What is wrong with an interface's name: the kernel takes 1 to 15 bytes without space, slash or colon
/// (`dev_valid_name` in net/core/dev.c).
pub(crate) fn interface_fault(name: &str) -> Option<Fault> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':';
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(odd) {
        return Some(Fault::new(
            "not the name of an interface: 1 to 15 bytes, no space, slash or colon",
        ));
    }
    None
}
