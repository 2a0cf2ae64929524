//! What a container's labels ask of its published ports: `datapath.allow` for all of them, and
//! `datapath.allow.80/tcp` for one, by the container's own port. A list is networks, with commas or spaces between.
//!
//! A label that cannot be followed closes the container's ports: whoever wrote it wanted them closed to somebody.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    answers::{Container, Port},
    translate::shown,
};
use crate::{
    config::ports::{Fault, parse_port, parse_protocol},
    model::{AllowList, Protocol},
};

/// The list of all ports.
const ALL: &str = "datapath.allow";
/// What is ours among labels.
const OURS: &str = "datapath.";

/// The allow-lists of a container's ports.
#[derive(Debug, Default)]
pub(super) struct Lists {
    all: Option<AllowList>,
    ports: BTreeMap<(u16, Protocol), AllowList>,
}

impl Lists {
    /// Reads a container's labels. What is ours and not known is told in `unknown`.
    ///
    /// # Errors
    /// Names the label that cannot be followed, its value, and the remedy.
    pub(super) fn read(
        container: &Container,
        ports: &[Port],
        unknown: &mut Vec<String>,
    ) -> Result<Self, String> {
        let mut lists = Self::default();
        let labels = container.labels.iter().flatten();
        let mut labels: Vec<_> = labels
            .filter(|(label, _)| label.starts_with(OURS))
            .collect();
        // The one that is complained of is the same every time.
        labels.sort_unstable();
        for (label, value) in labels {
            let wrong = |fault: Fault| format!("label {}: {}: {fault}", shown(label), shown(value));
            match label.strip_prefix(ALL) {
                Some("") => lists.all = Some(list(value).map_err(wrong)?),
                Some(rest) if rest.starts_with('.') => {
                    let port = port(&rest[1..]).map_err(wrong)?;
                    if !has_port(ports, port) {
                        return Err(wrong(Fault(format!(
                            "the container has no port {}/{}; name its own port, not the host's",
                            port.0, port.1
                        ))));
                    }
                    lists.ports.insert(port, list(value).map_err(wrong)?);
                }
                _ => unknown.push(format!(
                    "label {}: not known; known are {ALL} and {ALL}.PORT/PROTOCOL",
                    shown(label)
                )),
            }
        }
        Ok(lists)
    }

    /// The list for one of the ports, published at this address of the host.
    pub(super) fn for_port(
        &self,
        port: u16,
        protocol: Protocol,
        listen: IpAddr,
    ) -> Option<AllowList> {
        let list = self.ports.get(&(port, protocol)).or(self.all.as_ref())?;
        Some(list.for_family_of(listen))
    }
}

fn list(value: &str) -> Result<AllowList, Fault> {
    let texts = value.split([',', ' ']).filter(|text| !text.is_empty());
    AllowList::parse(texts).map_err(|(index, fault)| match index {
        Some(index) => Fault(format!("network {}: {fault}", index + 1)),
        None => fault,
    })
}

/// `80/tcp`; without a protocol it is TCP, as everywhere in Docker.
fn port(text: &str) -> Result<(u16, Protocol), Fault> {
    let (port, protocol) = match text.split_once('/') {
        Some((port, protocol)) => (port, parse_protocol(protocol)?),
        None => (text, Protocol::Tcp),
    };
    let port = parse_port(port).map_err(|_| {
        Fault::new("write the container's port behind it, such as datapath.allow.80/tcp")
    })?;
    Ok((port, protocol))
}

/// Whether a container exposes or publishes a port.
fn has_port(ports: &[Port], (port, protocol): (u16, Protocol)) -> bool {
    let mut ports = ports.iter();
    ports.any(|listed| listed.private_port == port && protocol_of(listed) == Some(protocol))
}

/// The protocol of a listed port, if it is one of ours.
pub(super) fn protocol_of(port: &Port) -> Option<Protocol> {
    match port.protocol.as_deref() {
        Some("tcp") => Some(Protocol::Tcp),
        Some("udp") => Some(Protocol::Udp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sources::docker::answers::each;

    fn read(labels: &str) -> Result<Lists, String> {
        let container = format!(
            r#"{{"Id":"c0ffee","Labels":{labels},
                 "Ports":[{{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}},
                          {{"PrivatePort":53,"Type":"udp"}}]}}"#
        );
        let container: Container = serde_json::from_str(&container).unwrap();
        let mut unknown = Vec::new();
        let (ports, _) = each(container.ports.clone().unwrap());
        let lists = Lists::read(&container, &ports, &mut unknown);
        assert_eq!(unknown.len(), usize::from(labels.contains("alow")));
        lists
    }

    #[test]
    fn a_ports_own_list_comes_before_that_of_all() {
        let lists = read(
            r#"{"datapath.allow": "203.0.113.0/24, 2001:db8::/32", "com.example": "x", "datapath.alow": "",
                "datapath.allow.80/tcp": "198.51.100.7", "datapath.allow.53/udp": "10.0.0.0/8 10.1.2.3"}"#,
        )
        .unwrap();
        let shown = |port, protocol, listen: &str| {
            let list = lists.for_port(port, protocol, listen.parse().unwrap());
            list.unwrap().to_string()
        };
        assert_eq!(shown(80, Protocol::Tcp, "0.0.0.0"), "198.51.100.7/32");
        assert_eq!(shown(80, Protocol::Tcp, "::"), "nobody");
        assert_eq!(shown(81, Protocol::Tcp, "::"), "2001:db8::/32");
        assert_eq!(
            shown(53, Protocol::Udp, "0.0.0.0"),
            "10.0.0.0/8, 10.1.2.3/32"
        );
        let none = read("{}").unwrap();
        let list = none.for_port(80, Protocol::Tcp, "0.0.0.0".parse().unwrap());
        assert_eq!(list, None);
    }

    #[test]
    fn a_label_that_cannot_be_followed_is_named() {
        for (labels, parts) in [
            (
                r#"{"datapath.allow": ""}"#,
                ["datapath.allow", "names nobody"],
            ),
            (
                r#"{"datapath.allow": "10.0.0.0/8,everyone"}"#,
                ["everyone", "network 2: write a network"],
            ),
            (
                r#"{"datapath.allow.8080/tcp": "10.0.0.0/8"}"#,
                ["datapath.allow.8080/tcp", "not the host's"],
            ),
            (
                r#"{"datapath.allow.80/udp": "10.0.0.0/8"}"#,
                ["80/udp", "no port 80/udp"],
            ),
            (r#"{"datapath.allow.http": "10.0.0.0/8"}"#, ["http", "port"]),
            (
                r#"{"datapath.allow.+80/tcp": "10.0.0.0/8"}"#,
                ["datapath.allow.+80/tcp", "such as datapath.allow.80/tcp"],
            ),
            (
                r#"{"datapath.allow.80/sctp": "10.0.0.0/8"}"#,
                ["80/sctp", "udp"],
            ),
            (
                "{\"datapath.allow\": \"\\u001b[31m\\n10.0.0.1\"}",
                ["\\u{1b}", "network 1"],
            ),
        ] {
            let problem = read(labels).unwrap_err();
            for part in parts {
                assert!(problem.contains(part), "{labels}: {problem}");
            }
            assert!(!problem.contains(char::is_control), "{problem}");
        }
    }

    proptest! {
        /// Whoever starts containers writes them.
        #[test]
        fn any_label_is_followed_or_refused_in_one_clean_line(
            rest in prop_oneof!["[.0-9/tcpud+-]{0,12}", any::<String>()],
            value in prop_oneof!["[0-9a-f.:/, ]{0,40}", any::<String>()],
        ) {
            let label = format!("datapath.allow{rest}");
            let container = Container {
                labels: Some([(label, value)].into()),
                ..Container::default()
            };
            let ports: Vec<Port> =
                serde_json::from_str(r#"[{"PrivatePort": 80, "Type": "tcp"}]"#).unwrap();
            let mut said = Vec::new();
            let refused = Lists::read(&container, &ports, &mut said).err();
            for line in said.iter().chain(&refused) {
                prop_assert!(!line.contains(char::is_control) && line.len() < 2000, "{line:?}");
            }
        }
    }
}
