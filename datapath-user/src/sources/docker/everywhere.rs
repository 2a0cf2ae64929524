//! Ports that were published without naming an address of the host: on every address, of both families.
//!
//! docker-proxy used to carry such a port's IPv6 to containers that have IPv4 alone. An engine without it lists the
//! port on 0.0.0.0 only, as it does one that was published there on purpose: what a container was started with tells
//! the two apart, and does not change.

use std::{collections::HashMap, time::Duration};

use anyhow::Result;
use futures::StreamExt as _;
use tokio::time::{Instant, timeout};

use super::{
    answers::{self, Container, HostConfig, Inspected, Port, PortBinding},
    engine::Engine,
};

/// How many containers are asked about at a time.
const AT_A_TIME: usize = 8;
/// How long an answer may take: all ports wait for it. An engine that is busy with a container (`docker cp`) says nothing
/// of it until it is done.
const PATIENCE: Duration = Duration::from_secs(1);
/// When a container is asked about again of which nothing was said.
const AGAIN: Duration = Duration::from_secs(30);

/// What containers were started with, by their ids: it does not change, and is asked for once.
#[derive(Debug, Default)]
pub(super) struct Everywhere(HashMap<String, Known>);

/// What is known of one.
#[derive(Debug)]
enum Known {
    Said(HostConfig),
    /// Nothing was said until then.
    Silent(Instant),
}

impl Everywhere {
    /// Gives each container the ports that it has for being published everywhere.
    pub(super) async fn complete(&mut self, engine: &Engine<'_>, containers: &mut [Container]) {
        let listed: HashMap<_, _> = containers
            .iter()
            .filter_map(|container| Some((container.id.clone()?, listed(container))))
            .filter(|(_, ports)| alone(ports).next().is_some())
            .collect();
        self.0.retain(|id, known| {
            let again = matches!(known, Known::Silent(since) if since.elapsed() >= AGAIN);
            listed.contains_key(id) && !again
        });
        let unknown: Vec<_> = listed
            .keys()
            .filter(|id| !self.0.contains_key(*id))
            .cloned()
            .collect();
        let found: Vec<_> = futures::stream::iter(unknown)
            .map(|id| async move {
                let said = timeout(PATIENCE, ask(engine, &id)).await;
                let known = match said {
                    Ok(Ok(said)) => Known::Said(said),
                    Ok(Err(_)) | Err(_) => Known::Silent(Instant::now()),
                };
                (id, known)
            })
            .buffer_unordered(AT_A_TIME)
            .collect()
            .await;
        self.0.extend(found);
        for container in containers {
            let id = container.id.as_ref();
            let known = id.and_then(|id| Some((listed.get(id)?, self.0.get(id)?)));
            container.everywhere = match known {
                Some((ports, Known::Said(said))) => implied(ports, said),
                _ => Vec::new(),
            };
        }
    }
}

async fn ask(engine: &Engine<'_>, id: &str) -> Result<HostConfig> {
    let escaped: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    let path = format!("/containers/{escaped}/json");
    // One that is gone by now has none.
    let said = engine.get::<Inspected>(&path).await?;
    Ok(said.and_then(|said| said.host_config).unwrap_or_default())
}

/// The ports of the host's that a container has.
fn listed(container: &Container) -> Vec<Port> {
    let (ports, _) = answers::each::<Port>(container.ports.clone().unwrap_or_default());
    let mut ports: Vec<_> = ports
        .into_iter()
        .filter(|port| port.public_port.unwrap_or(0) != 0)
        .collect();
    ports.sort_by_key(|port| port.public_port);
    ports
}

/// Those that are listed on every IPv4 address, and not on every IPv6 one.
fn alone(ports: &[Port]) -> impl Iterator<Item = &Port> {
    let six = |port: &Port| {
        let mut others = sixes(ports, port);
        others.any(|other| other.public_port == port.public_port)
    };
    ports
        .iter()
        .filter(move |port| port.ip.as_deref() == Some("0.0.0.0") && !six(port))
}

/// The ports on every IPv6 address that lead where this one does.
fn sixes<'a>(ports: &'a [Port], port: &Port) -> impl Iterator<Item = &'a Port> {
    ports.iter().filter(|other| {
        other.ip.as_deref() == Some("::")
            && (other.private_port, &other.protocol) == (port.private_port, &port.protocol)
    })
}

/// Those that were published without an address, as ports of every IPv6 address.
fn implied(ports: &[Port], said: &HostConfig) -> Vec<Port> {
    let everywhere = alone(ports).filter(|port| {
        // An engine that serves both families may have chosen another port of IPv6 for it.
        is_everywhere(port, said) && sixes(ports, port).all(|six| is_asked_for(six, said))
    });
    let everywhere = everywhere.map(|port| Port {
        ip: Some("::".to_owned()),
        ..port.clone()
    });
    everywhere.collect()
}

/// Whether a port of every IPv4 address was published without one: by the binding that names it, or else by all that may
/// have led to it.
fn is_everywhere(port: &Port, said: &HostConfig) -> bool {
    let Some(bindings) = bindings(port, said) else {
        return said.publish_all_ports == Some(true);
    };
    let public = port.public_port.unwrap_or(0);
    let may: Vec<_> = bindings
        .iter()
        .filter(|binding| matches!(at(binding), "" | "0.0.0.0") && covers(binding, public))
        .collect();
    let mut named = may
        .iter()
        .filter(|binding| names(binding, public))
        .peekable();
    let open = |binding: &PortBinding| at(binding).is_empty();
    if named.peek().is_some() {
        named.any(|binding| open(binding))
    } else {
        !may.is_empty() && may.iter().all(|binding| open(binding))
    }
}

/// Whether a port of every IPv6 address was published there by name.
fn is_asked_for(port: &Port, said: &HostConfig) -> bool {
    let public = port.public_port.unwrap_or(0);
    bindings(port, said).is_some_and(|bindings| {
        let mut bindings = bindings.iter();
        bindings.any(|binding| at(binding).contains(':') && covers(binding, public))
    })
}

fn bindings<'a>(port: &Port, said: &'a HostConfig) -> Option<&'a [PortBinding]> {
    let protocol = port.protocol.as_deref().unwrap_or_default();
    let key = format!("{}/{protocol}", port.private_port);
    let bindings = said.port_bindings.as_ref()?.get(&key)?;
    Some(bindings.as_deref().unwrap_or_default())
}

/// The address that a binding names, or nothing.
fn at(binding: &PortBinding) -> &str {
    binding.host_ip.as_deref().unwrap_or_default()
}

/// The ports that a binding names: of the engine's choice where it names none.
fn asked(binding: &PortBinding) -> Option<(u16, u16)> {
    let text = binding.host_port.as_deref().unwrap_or_default();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let ports = (first.parse().ok()?, last.parse().ok()?);
    (ports != (0, 0)).then_some(ports)
}

/// Whether a binding may have led to a port.
fn covers(binding: &PortBinding, public: u16) -> bool {
    asked(binding).is_none_or(|(first, last)| (first..=last).contains(&public))
}

/// Whether it could lead to no other.
fn names(binding: &PortBinding, public: u16) -> bool {
    asked(binding) == Some((public, public))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ports that a container is given, of those that are listed, for what it was started with.
    fn given(ports: &str, said: &str) -> Vec<u16> {
        let container = format!(r#"{{"Id": "c", "Ports": {ports}}}"#);
        let ports = listed(&serde_json::from_str(&container).unwrap());
        let said = serde_json::from_str(said).unwrap();
        let given = implied(&ports, &said);
        given.iter().filter_map(|port| port.public_port).collect()
    }

    #[test]
    fn only_ports_without_an_address_are_everywhere() {
        let ports = r#"[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
            {"IP":"0.0.0.0","PrivatePort":81,"PublicPort":8081,"Type":"tcp"},
            {"IP":"::","PrivatePort":81,"PublicPort":8081,"Type":"tcp"},
            {"IP":"0.0.0.0","PrivatePort":82,"PublicPort":8082,"Type":"udp"},
            {"IP":"192.0.2.1","PrivatePort":83,"PublicPort":8083,"Type":"tcp"},
            {"IP":"0.0.0.0","PrivatePort":84,"Type":"tcp"}]"#;
        let everywhere = |said: &str| given(ports, said);
        let bindings = r#"{"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}],
                           "82/udp": [{"HostIp": "0.0.0.0", "HostPort": "8082"}]}}"#;
        assert_eq!(everywhere(bindings), [8080]);
        assert_eq!(
            everywhere(r#"{"PublishAllPorts": true, "PortBindings": null}"#),
            [8080, 8082]
        );
        assert_eq!(everywhere(r#"{"PortBindings": {"80/tcp": null}}"#), [0; 0]);
        assert_eq!(everywhere("{}"), [0; 0]);
    }

    #[test]
    fn of_several_ports_that_lead_to_one_each_is_as_it_was_published() {
        let four = r#"{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
            {"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8081,"Type":"tcp"}"#;
        let listed = format!("[{four}]");
        for (one, other, found) in [
            (("", "8080"), ("0.0.0.0", "8081"), &[8080][..]),
            (("", "8080-8089"), ("0.0.0.0", "8081"), &[8080]),
            // Which of them is which cannot be told.
            (("", ""), ("0.0.0.0", "0"), &[]),
            (("", ""), ("0.0.0.0", "8080"), &[8081]),
            (("", "8080"), ("", ""), &[8080, 8081]),
        ] {
            let binding = |(ip, port)| format!(r#"{{"HostIp": "{ip}", "HostPort": "{port}"}}"#);
            let (one, other) = (binding(one), binding(other));
            let said = format!(r#"{{"PortBindings": {{"80/tcp": [{one}, {other}]}}}}"#);
            assert_eq!(given(&listed, &said), found, "{said}");
        }
        // One of IPv6 that was asked for is beside it; one that the engine chose is instead of it.
        let six = r#"{"IP":"::","PrivatePort":80,"PublicPort":8090,"Type":"tcp"}"#;
        let listed = format!("[{four}, {six}]");
        let everywhere = r#"{"HostIp": "", "HostPort": "8080-8081"}"#;
        let asked = r#"{"HostIp": "::", "HostPort": "8090"}"#;
        let both = format!(r#"{{"PortBindings": {{"80/tcp": [{everywhere}, {asked}]}}}}"#);
        assert_eq!(given(&listed, &both), [8080, 8081]);
        let alone = format!(r#"{{"PortBindings": {{"80/tcp": [{everywhere}]}}}}"#);
        assert_eq!(given(&listed, &alone), [0; 0]);
    }
}
