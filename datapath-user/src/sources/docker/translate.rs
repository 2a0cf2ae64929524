//! The engine's answers, as networks and published ports. Whatever they hold: what makes no sense is left out and
//! said, and nothing of it reaches a log unescaped.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::IpAddr,
};

use bollard::models::{
    ContainerSummary, EndpointSettings, Network as Listed, PortSummary, PortSummaryTypeEnum,
};
use datapath_common::binding::Source;
use ipnet::IpNet;

use super::Snapshot;
use crate::{
    config::interface_fault,
    model::{Listen, Network, Protocol, Publication},
};

/// Prefix of the options of the engine's bridge driver.
const OPTION: &str = "com.docker.network.bridge.";
/// Characters of an id that people see.
const SHORT: usize = 12;
/// Characters of somebody else's text that are shown.
const SHOWN: usize = 60;

/// Both listings put together.
pub(super) fn snapshot(networks: &[Listed], containers: &[ContainerSummary]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut bridges = HashMap::new();
    for listed in networks {
        if listed.driver.as_deref() != Some("bridge") {
            continue;
        }
        match network(listed) {
            Ok(network) => {
                let internal = network.internal;
                bridges.insert(listed.id.clone().unwrap_or_default(), internal);
                snapshot.networks.push(network);
            }
            Err(problem) => snapshot.problems.push(problem),
        }
    }
    let mut publications = BTreeMap::new();
    for container in containers {
        for port in container.ports.iter().flatten() {
            match publication(container, port, &bridges) {
                Ok(Some(port)) => drop(publications.entry(port.listen).or_insert(port)),
                Ok(None) => {}
                Err(problem) => snapshot.problems.push(problem),
            }
        }
    }
    snapshot.publications = publications.into_values().collect();
    // Whatever order the engine lists in, what is the same compares as the same.
    snapshot.networks.sort_unstable();
    snapshot.problems.sort_unstable();
    snapshot.problems.dedup();
    snapshot
}

fn network(listed: &Listed) -> Result<Network, String> {
    let name = shown(listed.name.as_deref().unwrap_or_default());
    let id = listed.id.as_deref().unwrap_or_default();
    let option = |key: &str| {
        let options = listed.options.as_ref()?;
        options.get(&format!("{OPTION}{key}")).map(String::as_str)
    };
    let bridge = match option("name") {
        Some(bridge) => bridge.to_owned(),
        None => format!("br-{}", short(id)),
    };
    if let Some(fault) = interface_fault(&bridge) {
        return Err(format!(
            "docker network {name}: bridge {}: {fault}",
            shown(&bridge)
        ));
    }
    let ipam = listed.ipam.as_ref().and_then(|ipam| ipam.config.as_ref());
    let mut subnets = Vec::new();
    for subnet in ipam
        .into_iter()
        .flatten()
        .filter_map(|config| config.subnet.as_ref())
    {
        let subnet: IpNet = subnet.parse().map_err(|_| {
            format!(
                "docker network {name}: subnet {}: not a network",
                shown(subnet)
            )
        })?;
        subnets.push(subnet.trunc());
    }
    subnets.sort_unstable();
    // An engine without iptables says of its default network that it is not masqueraded: that was its part, and is
    // ours now.
    let given_up = option("default_bridge") == Some("true");
    let masquerade = given_up || option("enable_ip_masquerade") != Some("false");
    let mode = option("gateway_mode_ipv4").or(option("gateway_mode_ipv6"));
    Ok(Network {
        bridge,
        subnets,
        masquerade: masquerade && mode != Some("routed"),
        internal: listed.internal == Some(true) || mode == Some("isolated"),
        icc: option("enable_icc") != Some("false"),
        routed: matches!(mode, Some("routed" | "nat-unprotected")),
    })
}

/// A published port; `None` for one that is exposed only, or not of our protocols.
fn publication(
    container: &ContainerSummary,
    port: &PortSummary,
    bridges: &HashMap<String, bool>,
) -> Result<Option<Publication>, String> {
    let protocol = match port.typ {
        Some(PortSummaryTypeEnum::TCP) => Protocol::Tcp,
        Some(PortSummaryTypeEnum::UDP) => Protocol::Udp,
        _ => return Ok(None),
    };
    let owner = short(container.id.as_deref().unwrap_or_default());
    let (Some(public), Some(ip)) = (port.public_port.filter(|port| *port != 0), &port.ip) else {
        return Ok(None);
    };
    let addr: IpAddr = ip.parse().map_err(|_| {
        format!(
            "docker container {}: address {}: not one",
            shown(&owner),
            shown(ip)
        )
    })?;
    let Some(to) = endpoint(container, bridges, addr.is_ipv6()) else {
        return Err(format!(
            "docker container {}: port {public}: it has no address in a bridge network",
            shown(&owner)
        ));
    };
    Ok(Some(Publication {
        listen: Listen {
            addr,
            port: public,
            protocol,
        },
        to,
        to_port: port.private_port,
        source: Source::Docker,
        owner,
    }))
}

/// The address that the engine would lead a port to: in the network that the container's default route goes by.
/// For an IPv6 port the IPv6 address, or else the IPv4 one.
fn endpoint(
    container: &ContainerSummary,
    bridges: &HashMap<String, bool>,
    six: bool,
) -> Option<IpAddr> {
    let settings = container.network_settings.as_ref()?.networks.as_ref()?;
    let mut endpoints: Vec<(&String, &EndpointSettings)> = settings
        .iter()
        .filter(|(_, at)| at.network_id.as_ref().and_then(|id| bridges.get(id)) == Some(&false))
        .collect();
    endpoints.sort_by_key(|(name, at)| (-at.gw_priority.unwrap_or(0), *name));
    let (_, at) = endpoints.first()?;
    let address = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok());
    let four = address(&at.ip_address);
    if six {
        address(&at.global_ipv6_address).or(four)
    } else {
        four
    }
}

fn short(id: &str) -> String {
    id.chars()
        .filter(char::is_ascii_alphanumeric)
        .take(SHORT)
        .collect()
}

/// Somebody else's text, fit to be shown.
fn shown(text: &str) -> impl fmt::Display {
    let text: String = text.chars().take(SHOWN).collect();
    text.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As dockerd 20.10 answers, the fields that matter here.
    const NETWORKS: &str = r#"[
      {"Name":"bridge","Id":"f00d5ab1e00000000000","Scope":"local","Driver":"bridge",
       "IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"172.17.0.0/16"}]},"Internal":false,
       "Options":{"com.docker.network.bridge.name":"docker0","com.docker.network.bridge.enable_icc":"true",
                  "com.docker.network.bridge.default_bridge":"true",
                  "com.docker.network.bridge.enable_ip_masquerade":"false"}},
      {"Name":"back","Id":"0123456789abcdef","Driver":"bridge","Internal":true,
       "IPAM":{"Config":[{"Subnet":"172.18.0.0/16","Gateway":"172.18.0.1"},{"Subnet":"fd00:1::/64"}]},
       "Options":{"com.docker.network.bridge.enable_icc":"false"}},
      {"Name":"host","Id":"aa","Driver":"host","IPAM":{"Config":[]},"Options":{}}]"#;

    const CONTAINERS: &str = r#"[
      {"Id":"c0ffee0000001111222233334444","Names":["/web"],"State":"running",
       "Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
                {"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
                {"PrivatePort":443,"Type":"tcp"},
                {"IP":"0.0.0.0","PrivatePort":9,"PublicPort":9,"Type":"sctp"},
                {"IP":"203.0.113.2","PrivatePort":53,"PublicPort":53,"Type":"udp"}],
       "NetworkSettings":{"Networks":{
          "a-back":{"NetworkID":"0123456789abcdef","IPAddress":"172.18.0.9"},
          "bridge":{"NetworkID":"f00d5ab1e00000000000","IPAddress":"172.17.0.2","GlobalIPv6Address":""}}}}]"#;

    fn read(networks: &str, containers: &str) -> Snapshot {
        let networks: Vec<Listed> = serde_json::from_str(networks).unwrap();
        let containers: Vec<ContainerSummary> = serde_json::from_str(containers).unwrap();
        snapshot(&networks, &containers)
    }

    #[test]
    fn networks_come_with_their_bridge_and_flags() {
        let snapshot = read(NETWORKS, "[]");
        assert_eq!(snapshot.problems, [""; 0]);
        let [back, docker0] = snapshot.networks.as_slice() else {
            panic!("{snapshot:?}")
        };
        assert_eq!(
            (back.bridge.as_str(), back.internal, back.icc),
            ("br-0123456789ab", true, false)
        );
        assert_eq!(back.subnets.len(), 2);
        assert_eq!(
            (docker0.bridge.as_str(), docker0.internal),
            ("docker0", false)
        );
        assert!(docker0.masquerade && docker0.icc && !docker0.routed);
    }

    #[test]
    fn published_ports_lead_to_the_network_of_the_default_route() {
        let snapshot = read(NETWORKS, CONTAINERS);
        let ports: Vec<_> = snapshot
            .publications
            .iter()
            .map(|port| {
                format!(
                    "{} {}:{} {}",
                    port.listen, port.to, port.to_port, port.owner
                )
            })
            .collect();
        assert_eq!(
            ports,
            [
                "0.0.0.0:8080/tcp 172.17.0.2:80 c0ffee000000",
                "203.0.113.2:53/udp 172.17.0.2:53 c0ffee000000",
                "[::]:8080/tcp 172.17.0.2:80 c0ffee000000",
            ]
        );
    }

    #[test]
    fn gateway_modes_and_priorities_of_newer_engines() {
        let networks = r#"[
          {"Name":"a","Id":"aaaa","Driver":"bridge","IPAM":{"Config":[{"Subnet":"10.1.0.0/24"}]},
           "Options":{"com.docker.network.bridge.gateway_mode_ipv4":"routed"}},
          {"Name":"b","Id":"bbbb","Driver":"bridge","IPAM":{"Config":[{"Subnet":"10.2.0.0/24"}]}}]"#;
        let containers = r#"[{"Id":"dd","Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":80,"Type":"tcp"}],
          "NetworkSettings":{"Networks":{"a":{"NetworkID":"aaaa","IPAddress":"10.1.0.2","GwPriority":0},
                                         "b":{"NetworkID":"bbbb","IPAddress":"10.2.0.2","GwPriority":5}}}}]"#;
        let snapshot = read(networks, containers);
        assert!(
            snapshot
                .networks
                .iter()
                .any(|net| net.bridge == "br-aaaa" && net.routed && !net.masquerade)
        );
        assert_eq!(snapshot.publications[0].to.to_string(), "10.2.0.2");
    }

    #[test]
    fn odd_data_is_left_out_and_said_on_one_line() {
        let networks = r#"[
          {"Name":"x\n\u001b[31m","Id":"aaaa","Driver":"bridge","IPAM":{"Config":[{"Subnet":"nonsense\n"}]}},
          {"Name":"y","Id":"b","Driver":"bridge","Options":{"com.docker.network.bridge.name":"../etc"}},
          {"Driver":"bridge"}]"#;
        let containers = r#"[{"Ports":[{"IP":"1.2.3","PrivatePort":1,"PublicPort":2,"Type":"tcp"},
                                       {"IP":"0.0.0.0","PrivatePort":1,"PublicPort":2,"Type":"udp"},
                                       {"IP":"0.0.0.0","PrivatePort":1,"PublicPort":0,"Type":"udp"}]}, {}]"#;
        let snapshot = read(networks, containers);
        assert_eq!(snapshot.publications, []);
        assert_eq!(snapshot.problems.len(), 4, "{:?}", snapshot.problems);
        for problem in &snapshot.problems {
            assert!(!problem.contains(char::is_control), "{problem}");
        }
    }
}
