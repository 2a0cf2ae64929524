//! `publish`, `allow` and `unpublish`: through the service, which answers when the change is in force.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Error, Result};
use datapath_common::ports::PortRange;
use hyper::Method;

use super::output;
use crate::{
    api::{
        client::Client,
        types::{AllowSpec, Changed, PublishSpec, Refusal, UnpublishSpec},
    },
    config::{
        Config,
        ports::{Fault, HostPorts, PublishArg},
    },
    model::{AllowList, Listen, every_address},
    sources::listeners::{Holder, Listeners},
};

/// An endpoint's address, as it is written on the command line.
pub(super) fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse()
        .map_err(|_| "not an address; write the endpoint's, such as 172.17.0.2 or fd00:17::2")
}

/// In the place of a list: whoever asks.
const EVERYBODY: &str = "everybody";

/// A network of an allow-list, as the service will read it.
pub(super) fn network(text: &str) -> Result<String, Fault> {
    AllowList::parse([text]).map_err(|(_, fault)| fault)?;
    Ok(text.to_owned())
}

/// The same, or [`EVERYBODY`].
pub(super) fn network_or_everybody(text: &str) -> Result<String, Fault> {
    if text == EVERYBODY {
        return Ok(text.to_owned());
    }
    network(text)
}

/// Publishes a port or a range.
pub(super) async fn publish(
    config: &Config,
    port: &PublishArg,
    to: IpAddr,
    allow: Vec<String>,
) -> Result<()> {
    let spec = PublishSpec {
        listen: listen(&port.host, to.is_ipv6()),
        to: text(to, port.endpoint),
        protocol: port.host.protocol,
        allow: (!allow.is_empty()).then_some(allow),
    };
    let changed: Changed = Client::new(&config.api_socket)
        .send(Method::POST, "/v1/ports", &[spec])
        .await
        .map_err(|error| name_holder(error, &port.host, to.is_ipv6()))?;
    output::line(&format!("published {} port(s)", changed.ports))
}

/// Says who may ask for a port or a range from now on.
pub(super) async fn allow(config: &Config, port: &HostPorts, allow: Vec<String>) -> Result<()> {
    let spec = AllowSpec {
        listen: listen(port, false),
        protocol: port.protocol,
        allow: (allow != [EVERYBODY]).then_some(allow),
    };
    let changed: Changed = Client::new(&config.api_socket)
        .send(Method::PATCH, "/v1/ports", &[spec])
        .await?;
    output::line(&format!("changed {} port(s)", changed.ports))
}

/// Withdraws a port or a range.
pub(super) async fn unpublish(config: &Config, port: &HostPorts) -> Result<()> {
    let spec = UnpublishSpec {
        listen: listen(port, false),
        protocol: port.protocol,
    };
    let changed: Changed = Client::new(&config.api_socket)
        .send(Method::DELETE, "/v1/ports", &[spec])
        .await?;
    output::line(&format!("withdrew {} port(s)", changed.ports))
}

/// A process that holds a port: the service has no right to see more of it than its user, which whoever runs this may
/// have.
fn name_holder(error: Error, host: &HostPorts, v6: bool) -> Error {
    let refusal = match error.downcast_ref::<Refusal>() {
        Some(refusal) if Holder::is_objection(&refusal.message) => refusal,
        _ => return error,
    };
    let asked = (host.ports.first..=host.ports.last).map(|port| Listen {
        addr: address_of(host, v6),
        port,
        protocol: host.protocol,
    });
    let refused = asked.filter(|listen| listen.to_string() == refusal.value);
    let held = Listeners::default().holders(refused).into_values().next();
    match held {
        Some(holder) => Refusal {
            message: holder.objection(),
            ..refusal.clone()
        }
        .into(),
        None => error,
    }
}

fn listen(host: &HostPorts, v6: bool) -> String {
    text(address_of(host, v6), host.ports)
}

/// Without an address: every one of the endpoint's family.
fn address_of(host: &HostPorts, v6: bool) -> IpAddr {
    host.addr.unwrap_or_else(|| every_address(v6))
}

fn text(addr: IpAddr, ports: PortRange) -> String {
    let first = SocketAddr::new(addr, ports.first);
    if ports.first == ports.last {
        return first.to_string();
    }
    format!("{first}-{}", ports.last)
}
