//! What is dialled: one address and port each, and which container is to answer there.

use std::net::SocketAddr;

use super::topology::Network;

/// What a dialled address and port is, as Docker has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A published port, dialled at an address that it is published on.
    Published,
    /// The same, of a container that has no address of the port's family.
    Crossing,
    /// A port that is not published on that address of the host.
    Unpublished,
    /// The container's own address.
    Direct,
}

/// Something to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// What it is, in words.
    pub(crate) says: &'static str,
    pub(crate) kind: Kind,
    pub(crate) addr: SocketAddr,
    /// The container behind it, and its network.
    pub(crate) container: &'static str,
    pub(crate) network: Network,
}

/// All of them, IPv4 first.
pub(crate) fn all() -> Vec<Target> {
    use Kind::{Crossing, Direct, Published, Unpublished};
    use Network::{Apart, Default, Inner, One, Own};
    [
        (
            "every address: at the LAN's",
            Published,
            "203.0.113.2:8080",
            "web",
            One,
        ),
        (
            "every address: at the LAN's second",
            Published,
            "203.0.113.3:8080",
            "web",
            One,
        ),
        (
            "every address: at its bridge's",
            Published,
            "172.20.0.1:8080",
            "web",
            One,
        ),
        (
            "every address: at another bridge's",
            Published,
            "172.21.0.1:8080",
            "web",
            One,
        ),
        (
            "every address: at 127.0.0.1",
            Published,
            "127.0.0.1:8080",
            "web",
            One,
        ),
        (
            "every address: at 127.9.9.9",
            Published,
            "127.9.9.9:8080",
            "web",
            One,
        ),
        (
            "203.0.113.2: there",
            Published,
            "203.0.113.2:8081",
            "web",
            One,
        ),
        (
            "203.0.113.2: at the LAN's second",
            Unpublished,
            "203.0.113.3:8081",
            "web",
            One,
        ),
        (
            "203.0.113.2: at its bridge's",
            Unpublished,
            "172.20.0.1:8081",
            "web",
            One,
        ),
        (
            "203.0.113.2: at 127.0.0.1",
            Unpublished,
            "127.0.0.1:8081",
            "web",
            One,
        ),
        ("127.0.0.1: there", Published, "127.0.0.1:8082", "web", One),
        (
            "127.0.0.1: at 127.0.0.2",
            Unpublished,
            "127.0.0.2:8082",
            "web",
            One,
        ),
        (
            "127.0.0.1: at the LAN's",
            Unpublished,
            "203.0.113.2:8082",
            "web",
            One,
        ),
        (
            "127.0.0.1: at its bridge's",
            Unpublished,
            "172.20.0.1:8082",
            "web",
            One,
        ),
        ("127.0.0.2: there", Published, "127.0.0.2:8083", "web", One),
        (
            "127.0.0.2: at 127.0.0.1",
            Unpublished,
            "127.0.0.1:8083",
            "web",
            One,
        ),
        (
            "one port, two containers: at the first's address",
            Published,
            "203.0.113.2:8086",
            "web",
            One,
        ),
        (
            "one port, two containers: at the second's address",
            Published,
            "203.0.113.3:8086",
            "twin",
            One,
        ),
        (
            "not published: at the LAN's",
            Unpublished,
            "203.0.113.2:81",
            "web",
            One,
        ),
        (
            "not published: at the container's own",
            Direct,
            "172.20.0.2:81",
            "web",
            One,
        ),
        (
            "published: at the container's own",
            Direct,
            "172.20.0.2:80",
            "web",
            One,
        ),
        (
            "`icc=false`, published: at the LAN's",
            Published,
            "203.0.113.2:8092",
            "alone",
            Apart,
        ),
        (
            "`icc=false`: at the container's own",
            Direct,
            "172.23.0.2:80",
            "alone",
            Apart,
        ),
        (
            "`internal`, published: at the LAN's",
            Unpublished,
            "203.0.113.2:8091",
            "hidden",
            Inner,
        ),
        (
            "`internal`: at the container's own",
            Direct,
            "172.22.0.2:80",
            "hidden",
            Inner,
        ),
        (
            "without masquerade, published: at the LAN's",
            Published,
            "203.0.113.2:8093",
            "open",
            Own,
        ),
        (
            "without masquerade: at the container's own",
            Direct,
            "172.24.0.2:81",
            "open",
            Own,
        ),
        (
            "default bridge, published: at the LAN's",
            Published,
            "203.0.113.2:8090",
            "four",
            Default,
        ),
        (
            "every address: at the LAN's",
            Published,
            "[2001:db8::2]:8080",
            "web",
            One,
        ),
        (
            "every address: at the LAN's second",
            Published,
            "[2001:db8::3]:8080",
            "web",
            One,
        ),
        (
            "every address: at its bridge's",
            Published,
            "[fd00:20::1]:8080",
            "web",
            One,
        ),
        ("every address: at ::1", Published, "[::1]:8080", "web", One),
        ("::1: there", Published, "[::1]:8084", "web", One),
        (
            "::1: at the LAN's",
            Unpublished,
            "[2001:db8::2]:8084",
            "web",
            One,
        ),
        (
            "2001:db8::2: there",
            Published,
            "[2001:db8::2]:8085",
            "web",
            One,
        ),
        (
            "2001:db8::2: at the LAN's second",
            Unpublished,
            "[2001:db8::3]:8085",
            "web",
            One,
        ),
        ("2001:db8::2: at ::1", Unpublished, "[::1]:8085", "web", One),
        (
            "not published: at the LAN's",
            Unpublished,
            "[2001:db8::2]:81",
            "web",
            One,
        ),
        (
            "not published: at the container's own",
            Direct,
            "[fd00:20::2]:81",
            "web",
            One,
        ),
        (
            "published: at the container's own",
            Direct,
            "[fd00:20::2]:80",
            "web",
            One,
        ),
        (
            "`icc=false`, published: at the LAN's",
            Published,
            "[2001:db8::2]:8092",
            "alone",
            Apart,
        ),
        (
            "`icc=false`: at the container's own",
            Direct,
            "[fd00:23::2]:80",
            "alone",
            Apart,
        ),
        (
            "`internal`, published: at the LAN's",
            Unpublished,
            "[2001:db8::2]:8091",
            "hidden",
            Inner,
        ),
        (
            "`internal`: at the container's own",
            Direct,
            "[fd00:22::2]:80",
            "hidden",
            Inner,
        ),
        (
            "without masquerade, published: at the LAN's",
            Published,
            "[2001:db8::2]:8093",
            "open",
            Own,
        ),
        (
            "without masquerade: at the container's own",
            Direct,
            "[fd00:24::2]:81",
            "open",
            Own,
        ),
        (
            "container with IPv4 alone: at the LAN's",
            Crossing,
            "[2001:db8::2]:8090",
            "four",
            Default,
        ),
        (
            "container with IPv4 alone: at ::1",
            Crossing,
            "[::1]:8090",
            "four",
            Default,
        ),
    ]
    .map(|(says, kind, addr, container, network)| Target {
        says,
        kind,
        addr: addr.parse().expect("an address"),
        container,
        network,
    })
    .to_vec()
}
