//! The file, section by section.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use datapath_common::{
    binding::{MAX_BINDINGS, Source},
    conntrack::timeouts::Timeouts,
};
use toml::de::DeTable;

use super::{
    Attach, Config, ConfigError, Conntrack, Docker, Forwarding, Nat, Uplinks, XdpMode, duration,
    interface_fault, network,
    ports::{AddrPorts, Fault, parse_ports, parse_protocol},
    publish::{PairFault, expand},
    table::{Item, Section, Text},
};
use crate::model::{AllowList, Listen, Protocol, Publication};

const KEYS: &[&str] = &[
    "pin_dir",
    "api_socket",
    "uplinks",
    "attach",
    "xdp",
    "forwarding",
    "docker",
    "network",
    "publish",
    "nat",
    "conntrack",
    "metrics",
];

/// The longest path that the address of a Unix socket holds, its final zero apart (unix(7)).
const SOCKET_PATH: usize = 107;

/// How many flows there may be: fewer are full at once, and more than 16 million entries of a map cost
/// gigabytes.
const FLOWS: std::ops::Range<u32> = 1024..(1 << 24) + 1;

/// Reads a file's text. `path` is what complaints call it.
pub(super) fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let text = Text { path, text };
    let table = DeTable::parse(text.text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        text.error(&span, format_args!("not TOML: {}", error.message()))
    })?;
    let file = Section::root(text, table.get_ref(), KEYS)?;
    let mut config = Config::default();
    if let Some(item) = file.get("pin_dir") {
        config.pin_dir = absolute(&item)?;
    }
    if let Some(item) = file.get("api_socket") {
        config.api_socket = socket(&item)?;
    }
    if let Some(item) = file.get("uplinks") {
        config.uplinks = uplinks(&item)?;
    }
    if let Some(item) = file.get("attach") {
        config.attach = attach(&item)?;
    }
    if let Some(item) = file.get("xdp") {
        config.xdp = xdp(&item)?;
    }
    if let Some(item) = file.get("forwarding") {
        config.forwarding = forwarding(&item)?;
    }
    config.docker = docker(&file)?;
    config.nat = nat(&file)?;
    config.conntrack = conntrack(&file)?;
    config.metrics = metrics(&file)?;
    config.networks = network::read(&file)?;
    if let Some(item) = file.get("uplinks") {
        refuse_bridges(&item, &config)?;
    }
    config.publications = publications(&file)?;
    Ok(config)
}

fn absolute(item: &Item<'_>) -> Result<PathBuf, ConfigError> {
    let path = item.string("write a path in quotes")?;
    if path.starts_with('/') && !path.contains('\0') {
        Ok(PathBuf::from(path))
    } else {
        Err(item.wrong("write an absolute path, one that begins with /"))
    }
}

fn socket(item: &Item<'_>) -> Result<PathBuf, ConfigError> {
    let path = absolute(item)?;
    if path.as_os_str().len() > SOCKET_PATH {
        return Err(item.wrong(format_args!(
            "a socket's path has at most {SOCKET_PATH} bytes; choose a shorter one"
        )));
    }
    Ok(path)
}

fn uplinks(item: &Item<'_>) -> Result<Uplinks, ConfigError> {
    const EXPECTED: &str = "write \"auto\", or a list of interfaces such as [\"eth0\"]";
    if item.is_string() {
        return match item.string(EXPECTED)? {
            "auto" => Ok(Uplinks::Auto),
            _ => Err(item.wrong(EXPECTED)),
        };
    }
    let mut names: Vec<String> = Vec::new();
    for entry in item.array(EXPECTED)? {
        let name = entry.string("write the interface's name in quotes")?;
        if let Some(fault) = interface_fault(name) {
            return Err(entry.wrong(fault));
        }
        if names.iter().any(|other| other == name) {
            return Err(entry.wrong("named twice; name it once"));
        }
        names.push(name.to_owned());
    }
    if names.is_empty() {
        return Err(item.wrong("names no interface; name one, or write \"auto\""));
    }
    Ok(Uplinks::Named(names))
}

/// An uplink is outside, and the bridge of a network is not.
fn refuse_bridges(item: &Item<'_>, config: &Config) -> Result<(), ConfigError> {
    let Uplinks::Named(names) = &config.uplinks else {
        return Ok(());
    };
    let is_bridge = |name: &String| config.networks.iter().any(|net| net.bridge == *name);
    match names.iter().find(|name| is_bridge(name)) {
        Some(name) => Err(item.wrong(format_args!(
            "{name} is the bridge of a [[network]]: what comes from its endpoints is not from outside; leave it out"
        ))),
        None => Ok(()),
    }
}

fn forwarding(item: &Item<'_>) -> Result<Forwarding, ConfigError> {
    const EXPECTED: &str = "write \"auto\", \"fast\" or \"kernel\"";
    match item.string(EXPECTED)? {
        "auto" => Ok(Forwarding::Auto),
        "fast" => Ok(Forwarding::Fast),
        "kernel" => Ok(Forwarding::Kernel),
        _ => Err(item.wrong(EXPECTED)),
    }
}

fn attach(item: &Item<'_>) -> Result<Attach, ConfigError> {
    const EXPECTED: &str = "write \"auto\", \"tcx\" or \"clsact\"";
    match item.string(EXPECTED)? {
        "auto" => Ok(Attach::Auto),
        "tcx" => Ok(Attach::Tcx),
        "clsact" => Ok(Attach::Clsact),
        _ => Err(item.wrong(EXPECTED)),
    }
}

fn xdp(item: &Item<'_>) -> Result<XdpMode, ConfigError> {
    const EXPECTED: &str = "write \"auto\", \"native\", \"generic\" or \"off\"";
    match item.string(EXPECTED)? {
        "auto" => Ok(XdpMode::Auto),
        "native" => Ok(XdpMode::Native),
        "generic" => Ok(XdpMode::Generic),
        "off" => Ok(XdpMode::Off),
        _ => Err(item.wrong(EXPECTED)),
    }
}

fn docker(file: &Section<'_>) -> Result<Docker, ConfigError> {
    let mut docker = Docker::default();
    let Some(section) = file.table("docker", &["enabled", "socket"])? else {
        return Ok(docker);
    };
    docker.enabled = section.get("enabled").map(|item| item.bool()).transpose()?;
    if let Some(item) = section.get("socket") {
        docker.socket = socket(&item)?;
    }
    Ok(docker)
}

fn nat(file: &Section<'_>) -> Result<Nat, ConfigError> {
    let mut nat = Nat::default();
    let Some(section) = file.table("nat", &["ports", "endpoint_independent"])? else {
        return Ok(nat);
    };
    if let Some(item) = section.get("ports") {
        let text = item.string("write a range in quotes, such as \"32768-60999\"")?;
        nat.ports = parse_ports(text).map_err(|fault| item.wrong(fault))?;
    }
    if let Some(item) = section.get("endpoint_independent") {
        const EXPECTED: &str = "write a list of \"tcp\", \"udp\" and \"icmp\", or []";
        (
            nat.independent_tcp,
            nat.independent_udp,
            nat.independent_icmp,
        ) = (false, false, false);
        for entry in item.array(EXPECTED)? {
            let switch = match entry.string(EXPECTED)? {
                "tcp" => &mut nat.independent_tcp,
                "udp" => &mut nat.independent_udp,
                "icmp" => &mut nat.independent_icmp,
                _ => return Err(entry.wrong(EXPECTED)),
            };
            *switch = true;
        }
    }
    Ok(nat)
}

/// The timeouts by the names that the file has for them.
fn timeouts(timeouts: &mut Timeouts) -> [(&'static str, &mut u64); 10] {
    [
        ("tcp_syn_sent", &mut timeouts.tcp_syn_sent),
        ("tcp_syn_recv", &mut timeouts.tcp_syn_recv),
        ("tcp_established", &mut timeouts.tcp_established),
        ("tcp_fin_wait", &mut timeouts.tcp_fin_wait),
        ("tcp_time_wait", &mut timeouts.tcp_time_wait),
        ("tcp_close", &mut timeouts.tcp_close),
        ("udp", &mut timeouts.udp),
        ("udp_stream", &mut timeouts.udp_stream),
        ("icmp", &mut timeouts.icmp),
        ("mapping", &mut timeouts.mapping),
    ]
}

fn conntrack(file: &Section<'_>) -> Result<Conntrack, ConfigError> {
    let mut conntrack = Conntrack::default();
    let mut known = vec!["max_flows", "gc_interval", "max_flows_per_endpoint"];
    known.extend(timeouts(&mut conntrack.timeouts).map(|(name, _)| name));
    let Some(section) = file.table("conntrack", &known)? else {
        return Ok(conntrack);
    };
    if let Some(item) = section.get("max_flows") {
        conntrack.max_flows = item.integer(FLOWS)?;
    }
    if let Some(item) = section.get("gc_interval") {
        conntrack.gc_interval = Duration::from_nanos(length(&item)?);
    }
    if let Some(item) = section.get("max_flows_per_endpoint") {
        conntrack.max_flows_per_endpoint = item.integer(0..FLOWS.end)?;
    }
    for (name, place) in timeouts(&mut conntrack.timeouts) {
        if let Some(item) = section.get(name) {
            *place = length(&item)?;
        }
    }
    Ok(conntrack)
}

fn metrics(file: &Section<'_>) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(section) = file.table("metrics", &["listen"])? else {
        return Ok(None);
    };
    let item = section.need("listen", "say where, such as listen = \"127.0.0.1:9464\"")?;
    let AddrPorts { addr, ports } = addr_ports(&item)?;
    if ports.first != ports.last {
        return Err(item.wrong("one port answers Prometheus; name one"));
    }
    Ok(Some(SocketAddr::new(addr, ports.first)))
}

fn length(item: &Item<'_>) -> Result<u64, ConfigError> {
    let text = item.string("write it with its unit in quotes, such as \"120s\" or \"5d\"")?;
    duration::parse(text).map_err(|fault| item.wrong(fault))
}

fn publications(file: &Section<'_>) -> Result<Vec<Publication>, ConfigError> {
    let mut all: Vec<Publication> = Vec::new();
    // Which entry has a listening place: kept by index, and put in words only for a complaint.
    let mut taken: HashMap<Listen, usize> = HashMap::new();
    let mut listens = Vec::new();
    for (index, entry) in file
        .tables("publish", &["listen", "to", "protocol", "allow"])?
        .iter()
        .enumerate()
    {
        let listen = entry.need("listen", "say where, such as listen = \"0.0.0.0:8080\"")?;
        let to = entry.need("to", "say where it leads, such as to = \"172.17.0.2:80\"")?;
        let protocol = match entry.get("protocol") {
            None => Protocol::Tcp,
            Some(item) => {
                let name = item.string("write \"tcp\" or \"udp\"")?;
                parse_protocol(name).map_err(|fault| item.wrong(fault))?
            }
        };
        let allowed = entry.get("allow");
        let allow = allowed.as_ref().map(allow).transpose()?;
        let own = expand(
            &addr_ports(&listen)?,
            &addr_ports(&to)?,
            protocol,
            allow.as_ref(),
            (Source::File, "file"),
        )
        .map_err(|fault| match fault {
            PairFault::Listen(fault) => listen.wrong(fault),
            PairFault::To(fault) => to.wrong(fault),
            PairFault::Allow(fault) => allowed.as_ref().unwrap_or(&listen).wrong(fault),
        })?;
        if all.len() + own.len() > MAX_BINDINGS as usize {
            return Err(listen.wrong(format_args!(
                "with it {} ports are published, each of a range counted; there is room for {MAX_BINDINGS}",
                all.len() + own.len()
            )));
        }
        listens.push(listen);
        for publication in &own {
            if let Some(other) = taken.insert(publication.listen, index) {
                let place = listens.get(other).map(Item::place).unwrap_or_default();
                let this = listens.get(index).map(|listen| {
                    listen.wrong(format_args!(
                        "{} is published already, by {place}; withdraw one of the two",
                        publication.listen
                    ))
                });
                return this.map_or(Ok(all), Err);
            }
        }
        all.extend(own);
    }
    Ok(all)
}

/// Who may ask for a port.
fn allow(item: &Item<'_>) -> Result<AllowList, ConfigError> {
    const EXPECTED: &str = "write a list of networks, such as [\"203.0.113.0/24\"]";
    let entries = item.array(EXPECTED)?;
    let texts: Vec<&str> = entries
        .iter()
        .map(|entry| entry.string("write the network in quotes"))
        .collect::<Result<_, _>>()?;
    AllowList::parse(texts).map_err(|(index, fault)| {
        let entry = index.and_then(|index| entries.get(index));
        entry.unwrap_or(item).wrong(fault)
    })
}

fn addr_ports(item: &Item<'_>) -> Result<AddrPorts, ConfigError> {
    let text = item.string("write address and port in quotes, such as \"0.0.0.0:8080\"")?;
    text.parse().map_err(|fault: Fault| item.wrong(fault))
}
