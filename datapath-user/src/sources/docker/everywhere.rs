//! Ports that were published without naming an address of the host: on every address, of both families.
//!
//! docker-proxy used to carry such a port's IPv6 to containers that have IPv4 alone. An engine without it lists the
//! port on 0.0.0.0 only, as it does one that was published there on purpose: what a container was started with tells
//! the two apart, and does not change.

use std::collections::HashMap;

use anyhow::Result;
use futures::StreamExt as _;

use super::{
    answers::{self, Container, HostConfig, Inspected, Port},
    engine::Engine,
};

/// How many containers are asked about at a time.
const AT_A_TIME: usize = 8;

/// The IPv6 ports of containers, by their ids: found once for each.
#[derive(Debug, Default)]
pub(super) struct Everywhere(HashMap<String, Vec<Port>>);

impl Everywhere {
    /// Gives each container the ports that it has for being published everywhere.
    pub(super) async fn complete(&mut self, engine: &Engine<'_>, containers: &mut [Container]) {
        let alone: HashMap<_, _> = containers
            .iter()
            .filter_map(|container| Some((container.id.clone()?, alone(container))))
            .filter(|(_, ports)| !ports.is_empty())
            .collect();
        self.0.retain(|id, _| alone.contains_key(id));
        let unknown: Vec<_> = alone
            .into_iter()
            .filter(|(id, _)| !self.0.contains_key(id))
            .collect();
        let found: Vec<_> = futures::stream::iter(unknown)
            .map(|(id, ports)| ask(engine, id, ports))
            .buffer_unordered(AT_A_TIME)
            // One that cannot be asked about is asked about again next time, and hides no other.
            .filter_map(|found| std::future::ready(found.ok()))
            .collect()
            .await;
        self.0.extend(found);
        for container in containers {
            let ports = container.id.as_ref().and_then(|id| self.0.get(id));
            container.everywhere = ports.cloned().unwrap_or_default();
        }
    }
}

async fn ask(engine: &Engine<'_>, id: String, ports: Vec<Port>) -> Result<(String, Vec<Port>)> {
    let escaped: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    let path = format!("/containers/{escaped}/json");
    // One that is gone by now has none.
    let said = engine.get::<Inspected>(&path).await?;
    let said = said.and_then(|said| said.host_config).unwrap_or_default();
    let ports = implied(&ports, &said);
    Ok((id, ports))
}

/// The ports that are listed on every IPv4 address, and on no IPv6 one.
fn alone(container: &Container) -> Vec<Port> {
    let (ports, _) = answers::each::<Port>(container.ports.clone().unwrap_or_default());
    let six = |port: &Port| {
        ports.iter().any(|other| {
            other.ip.as_deref().is_some_and(|ip| ip.contains(':'))
                && (other.private_port, &other.protocol) == (port.private_port, &port.protocol)
        })
    };
    let mut alone: Vec<_> = ports
        .iter()
        .filter(|port| port.ip.as_deref() == Some("0.0.0.0") && !six(port))
        .filter(|port| port.public_port.unwrap_or(0) != 0)
        .cloned()
        .collect();
    alone.sort_by_key(|port| port.public_port);
    alone
}

/// Those of them that were published without an address, as ports of every IPv6 address.
fn implied(ports: &[Port], said: &HostConfig) -> Vec<Port> {
    let everywhere = ports.iter().filter(|port| is_everywhere(port, said));
    let everywhere = everywhere.map(|port| Port {
        ip: Some("::".to_owned()),
        ..port.clone()
    });
    everywhere.collect()
}

fn is_everywhere(port: &Port, said: &HostConfig) -> bool {
    let protocol = port.protocol.as_deref().unwrap_or_default();
    let key = format!("{}/{protocol}", port.private_port);
    let bindings = said.port_bindings.as_ref();
    match bindings.and_then(|bindings| bindings.get(&key)) {
        Some(bindings) => {
            let mut named = bindings.iter().flatten();
            named.any(|binding| binding.host_ip.as_deref().unwrap_or_default().is_empty())
        }
        None => said.publish_all_ports == Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(ports: &str) -> Container {
        serde_json::from_str(&format!(r#"{{"Id": "c", "Ports": {ports}}}"#)).unwrap()
    }

    #[test]
    fn only_ports_without_an_address_are_everywhere() {
        let ports = alone(&container(
            r#"[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
                {"IP":"0.0.0.0","PrivatePort":81,"PublicPort":8081,"Type":"tcp"},
                {"IP":"::","PrivatePort":81,"PublicPort":8081,"Type":"tcp"},
                {"IP":"0.0.0.0","PrivatePort":82,"PublicPort":8082,"Type":"udp"},
                {"IP":"192.0.2.1","PrivatePort":83,"PublicPort":8083,"Type":"tcp"},
                {"IP":"0.0.0.0","PrivatePort":84,"Type":"tcp"}]"#,
        ));
        let listed: Vec<_> = ports.iter().map(|port| port.private_port).collect();
        assert_eq!(listed, [80, 82]);
        let said = |text: &str| serde_json::from_str::<HostConfig>(text).unwrap();
        let everywhere = |text: &str| -> Vec<u16> {
            let said = said(text);
            let ports = ports.iter().filter(|port| is_everywhere(port, &said));
            ports.map(|port| port.private_port).collect()
        };
        let bindings = r#"{"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}],
                           "82/udp": [{"HostIp": "0.0.0.0", "HostPort": "8082"}]}}"#;
        assert_eq!(everywhere(bindings), [80]);
        assert_eq!(
            everywhere(r#"{"PublishAllPorts": true, "PortBindings": null}"#),
            [80, 82]
        );
        assert_eq!(everywhere(r#"{"PortBindings": {"80/tcp": null}}"#), [0; 0]);
        assert_eq!(everywhere("{}"), [0; 0]);
    }
}
