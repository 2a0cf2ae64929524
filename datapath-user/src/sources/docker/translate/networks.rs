//! Networks of the engine's bridge driver.

use ipnet::IpNet;

use super::{super::answers, short, shown};
use crate::{config::interface_fault, model::Network};

/// Prefix of the options of the engine's bridge driver.
const OPTION: &str = "com.docker.network.bridge.";

/// What a network does with one family's packets: the driver's `gateway_mode_ipv4` and `gateway_mode_ipv6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Endpoints are behind the host's addresses, and seen by their published ports only.
    #[default]
    Nat,
    /// The same, but whoever has a route to an endpoint reaches all of it.
    NatUnprotected,
    /// Endpoints show their own addresses; their published ports, and ICMP, are reached by them, and nothing else.
    Routed,
    /// The host itself has no address there: of internal networks.
    Isolated,
}

/// What a network does with the packets of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Modes {
    pub(super) ipv4: Mode,
    pub(super) ipv6: Mode,
    /// It reaches nobody outside, and nobody outside reaches it.
    pub(super) internal: bool,
}

/// The network: two of them, one for each family, where the families differ.
pub(super) fn read(listed: &answers::Network) -> Result<(Vec<Network>, Modes), String> {
    let name = shown(listed.name.as_deref().unwrap_or_default());
    let option = |key: &str| {
        let options = listed.options.as_ref()?;
        options.get(&format!("{OPTION}{key}")).map(String::as_str)
    };
    let bridge = match option("name") {
        Some(bridge) if !bridge.is_empty() => bridge.to_owned(),
        _ => format!("br-{}", short(listed.id.as_deref().unwrap_or_default())),
    };
    if let Some(fault) = interface_fault(&bridge) {
        let bridge = shown(&bridge);
        return Err(format!("docker network {name}: bridge {bridge}: {fault}"));
    }
    let modes = Modes {
        ipv4: mode(option("gateway_mode_ipv4")),
        ipv6: mode(option("gateway_mode_ipv6")),
        internal: listed.internal == Some(true),
    };
    // An engine without iptables says of its default network that it is not masqueraded: that was its part, and is
    // ours now.
    let given_up = option("default_bridge") == Some("true");
    let masquerade = given_up || option("enable_ip_masquerade") != Some("false");
    let subnets = subnets(listed).map_err(|fault| format!("docker network {name}: {fault}"))?;
    let side = |mode: Mode, subnets: Vec<IpNet>| Network {
        bridge: bridge.clone(),
        subnets,
        masquerade: masquerade && mode != Mode::Routed,
        internal: modes.internal || mode == Mode::Isolated,
        icc: option("enable_icc") != Some("false"),
        routed: mode == Mode::NatUnprotected,
        icmp: matches!(mode, Mode::NatUnprotected | Mode::Routed),
    };
    let (four, six): (Vec<_>, Vec<_>) = subnets.iter().partition(|net| matches!(net, IpNet::V4(_)));
    let sides = if modes.ipv4 == modes.ipv6 || six.is_empty() {
        vec![side(modes.ipv4, subnets)]
    } else if four.is_empty() {
        vec![side(modes.ipv6, subnets)]
    } else {
        vec![side(modes.ipv4, four), side(modes.ipv6, six)]
    };
    Ok((sides, modes))
}

/// One that we do not know is taken for the one that opens least.
fn mode(text: Option<&str>) -> Mode {
    match text {
        Some("nat-unprotected") => Mode::NatUnprotected,
        Some("routed") => Mode::Routed,
        Some("isolated") => Mode::Isolated,
        _ => Mode::Nat,
    }
}

fn subnets(listed: &answers::Network) -> Result<Vec<IpNet>, String> {
    let ipam = listed.ipam.as_ref().and_then(|ipam| ipam.config.as_ref());
    let named = ipam.into_iter().flatten();
    let mut subnets = Vec::new();
    for text in named.filter_map(|pool| pool.subnet.as_deref()) {
        let subnet = text.parse::<IpNet>().map(|subnet| subnet.trunc());
        match subnet {
            Ok(subnet) if subnet.prefix_len() > 0 => subnets.push(subnet),
            _ => return Err(format!("subnet {}: not a network", shown(text))),
        }
    }
    subnets.sort_unstable();
    Ok(subnets)
}
