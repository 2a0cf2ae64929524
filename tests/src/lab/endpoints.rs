//! More bridges and containers than a lab begins with.

use super::{DockerLab, Lab, Netns, run};

impl Lab {
    /// IPv6 beside IPv4: 2001:db8::9 outside, 2001:db8::2 the host, fd00:17::2 the container.
    pub fn add_ipv6(&self) {
        for (netns, interface, address) in [
            (&self.lan, "eth0", "2001:db8::9/64"),
            (&self.host, "eth0", "2001:db8::2/64"),
            (&self.host, "docker0", "fd00:17::1/64"),
            (&self.container, "eth0", "fd00:17::2/64"),
        ] {
            netns.ip(&format!("addr add {address} dev {interface} nodad"));
        }
        self.container.ip("route add default via fd00:17::1");
        run(self
            .host
            .command("sysctl")
            .args(["-qw", "net.ipv6.conf.all.forwarding=1"]));
    }

    /// A host behind the LAN host, which routes to it: 198.51.100.7 and 2001:db8:7::7.
    #[must_use]
    pub fn add_far(&self) -> Netns {
        let far = Netns::new(&self.name, "far");
        self.lan.ip(&format!(
            "link add eth1 type veth peer name eth0 netns {}",
            far.name
        ));
        for (netns, interface, addresses) in [
            (&self.lan, "eth1", ["198.51.100.1/24", "2001:db8:7::1/64"]),
            (&far, "eth0", ["198.51.100.7/24", "2001:db8:7::7/64"]),
        ] {
            netns.ip(&format!("link set {interface} up"));
            for address in addresses {
                netns.ip(&format!(
                    "addr add {address} dev {interface}{}",
                    nodad(address)
                ));
            }
        }
        far.ip("route add default via 198.51.100.1");
        far.ip("route add default via 2001:db8:7::1");
        self.host.ip("route add default via 203.0.113.9");
        self.host.ip("route add default via 2001:db8::9");
        for forwarding in ["ipv4.ip_forward", "ipv6.conf.all.forwarding"] {
            run(self
                .lan
                .command("sysctl")
                .args(["-qw", &format!("net.{forwarding}=1")]));
        }
        far
    }

    /// Another uplink of the host's, eth1 with 192.0.2.2, and who is at its other end: 192.0.2.9.
    #[must_use]
    pub fn add_uplink(&self) -> Netns {
        let provider = Netns::new(&self.name, "isp");
        self.host.ip(&format!(
            "link add eth1 type veth peer name eth0 netns {}",
            provider.name
        ));
        for (netns, interface, address) in [
            (&self.host, "eth1", "192.0.2.2/24"),
            (&provider, "eth0", "192.0.2.9/24"),
        ] {
            netns.ip(&format!("addr add {address} dev {interface}"));
            netns.ip(&format!("link set {interface} up"));
        }
        provider
    }

    /// Another bridge of the host's, with these addresses (`172.18.0.1/16`).
    pub fn add_bridge(&self, bridge: &str, addresses: &[&str]) {
        self.host.ip(&format!("link add {bridge} type bridge"));
        self.host.ip(&format!("link set {bridge} up"));
        self.add_addresses(bridge, addresses);
    }

    /// More addresses for one of the host's interfaces.
    pub fn add_addresses(&self, interface: &str, addresses: &[&str]) {
        for address in addresses {
            self.host.ip(&format!(
                "addr add {address} dev {interface}{}",
                nodad(address)
            ));
        }
    }

    /// Another container on a bridge, with these addresses and gateways.
    #[must_use]
    pub fn add_container(
        &self,
        role: &str,
        bridge: &str,
        addresses: &[&str],
        gateways: &[&str],
    ) -> Netns {
        endpoint((&self.name, &self.host), role, bridge, addresses, gateways)
    }
}

impl DockerLab {
    /// A container on a bridge that the engine does not know of.
    #[must_use]
    pub fn add_container(
        &self,
        role: &str,
        bridge: &str,
        addresses: &[&str],
        gateways: &[&str],
    ) -> Netns {
        endpoint((&self.name, &self.host), role, bridge, addresses, gateways)
    }

    /// A host of its own, joined to nobody yet.
    #[must_use]
    pub fn add_host(&self, role: &str) -> Netns {
        Netns::new(&self.name, role)
    }
}

/// A namespace behind a bridge's port of this lab's host.
fn endpoint(
    (lab, host): (&str, &Netns),
    role: &str,
    bridge: &str,
    addresses: &[&str],
    gateways: &[&str],
) -> Netns {
    let container = Netns::new(lab, role);
    host.ip(&format!(
        "link add v{role} type veth peer name eth0 netns {}",
        container.name
    ));
    host.ip(&format!("link set v{role} master {bridge} up"));
    container.ip("link set eth0 up");
    for address in addresses {
        container.ip(&format!("addr add {address} dev eth0{}", nodad(address)));
    }
    for gateway in gateways {
        container.ip(&format!("route add default via {gateway}"));
    }
    container
}

/// An IPv6 address is usable at once only without duplicate address detection.
fn nodad(address: &str) -> &'static str {
    if address.contains(':') { " nodad" } else { "" }
}
