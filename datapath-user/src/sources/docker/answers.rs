//! What is read of the engine's answers, and nothing else of them.
//!
//! Every field may be missing, and a list's elements are read one by one: an engine of tomorrow that says something
//! new of one container does not hide all the others.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// `GET /version`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Version {
    /// The engine's own.
    #[serde(rename = "Version")]
    pub(super) engine: Option<String>,
    /// The newest version of the API that it speaks.
    #[serde(rename = "ApiVersion")]
    pub(super) newest: Option<String>,
    /// The oldest.
    #[serde(rename = "MinAPIVersion")]
    pub(super) oldest: Option<String>,
}

/// `GET /info`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Info {
    pub(super) swarm: Option<Swarm>,
    pub(super) live_restore_enabled: Option<bool>,
}

/// What it says of a swarm.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Swarm {
    /// `active`, or else not a member.
    pub(super) local_node_state: Option<String>,
}

/// What an engine answers when it refuses.
#[derive(Debug, Deserialize)]
pub(super) struct Refused {
    pub(super) message: String,
}

/// An element of `GET /networks`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Network {
    pub(super) name: Option<String>,
    pub(super) id: Option<String>,
    pub(super) driver: Option<String>,
    #[serde(rename = "IPAM")]
    pub(super) ipam: Option<Ipam>,
    pub(super) internal: Option<bool>,
    pub(super) options: Option<HashMap<String, String>>,
    /// The containers in it, by their ids: only where one network was asked for.
    pub(super) containers: Option<HashMap<String, Guest>>,
}

/// A network's address management.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Ipam {
    pub(super) config: Option<Vec<Pool>>,
}

/// A network's subnet.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Pool {
    pub(super) subnet: Option<String>,
}

/// A container in a network.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Guest {
    /// With the length of its prefix.
    #[serde(rename = "IPv4Address")]
    pub(super) ipv4: Option<String>,
    /// Likewise.
    #[serde(rename = "IPv6Address")]
    pub(super) ipv6: Option<String>,
}

/// An element of `GET /containers/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Container {
    pub(super) id: Option<String>,
    /// Each of them a [`Port`].
    pub(super) ports: Option<Vec<Value>>,
    pub(super) labels: Option<HashMap<String, String>>,
    pub(super) network_settings: Option<NetworkSettings>,
    /// Its ports on every IPv6 address that the listing does not have.
    #[serde(skip)]
    pub(super) everywhere: Vec<Port>,
}

/// `GET /containers/ID/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Inspected {
    pub(super) host_config: Option<HostConfig>,
}

/// What a container was started with.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct HostConfig {
    /// By the container's port and protocol.
    pub(super) port_bindings: Option<HashMap<String, Option<Vec<PortBinding>>>>,
    pub(super) publish_all_ports: Option<bool>,
}

/// Where one of its ports was to be published.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct PortBinding {
    /// Empty where none was named.
    pub(super) host_ip: Option<String>,
    /// One, or a range; empty or 0 where none was named.
    pub(super) host_port: Option<String>,
}

/// A container's networks.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    /// By their names.
    pub(super) networks: Option<HashMap<String, Endpoint>>,
}

/// A container's place in a network.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Endpoint {
    #[serde(rename = "NetworkID")]
    pub(super) network_id: Option<String>,
    #[serde(rename = "IPAddress")]
    pub(super) ipv4: Option<String>,
    #[serde(rename = "GlobalIPv6Address")]
    pub(super) ipv6: Option<String>,
    /// The higher, the sooner the container's default route goes by it. Engines from 28 on.
    #[serde(rename = "GwPriority")]
    pub(super) gateway_priority: Option<i64>,
}

/// A port that a container exposes or publishes.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Port {
    /// The host's address; none where the port is only exposed.
    #[serde(rename = "IP", default, deserialize_with = "filled")]
    pub(super) ip: Option<String>,
    pub(super) private_port: u16,
    /// The host's port; none or 0 where it is exposed only, or routed to.
    #[serde(default)]
    pub(super) public_port: Option<u16>,
    #[serde(rename = "Type", default)]
    pub(super) protocol: Option<String>,
}

/// An empty text says as little as none.
fn filled<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// The elements that make sense, and what is wrong with each of the others.
pub(super) fn each<T: DeserializeOwned>(list: Vec<Value>) -> (Vec<T>, Vec<serde_json::Error>) {
    let (mut good, mut bad) = (Vec::with_capacity(list.len()), Vec::new());
    for element in list {
        match serde_json::from_value(element) {
            Ok(element) => good.push(element),
            Err(error) => bad.push(error),
        }
    }
    (good, bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_element_hides_no_other() {
        let list =
            r#"[{"Id": "a"}, {"Id": 7}, "x", null, {"Id": "b", "State": {"of": "tomorrow"}}]"#;
        let (good, bad) = each::<Container>(serde_json::from_str(list).unwrap());
        let ids: Vec<_> = good
            .iter()
            .filter_map(|container| container.id.as_deref())
            .collect();
        assert_eq!((ids, bad.len()), (vec!["a", "b"], 3));
    }

    #[test]
    fn an_empty_address_is_none() {
        let port: Port = serde_json::from_str(r#"{"IP": "", "PrivatePort": 80}"#).unwrap();
        assert_eq!((port.ip, port.public_port), (None, None));
    }
}
