//! More bridges and containers than a lab begins with.

use super::{Lab, Netns, run};

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
        let container = Netns::new(&self.name, role);
        self.host.ip(&format!(
            "link add v{role} type veth peer name eth0 netns {}",
            container.name
        ));
        self.host
            .ip(&format!("link set v{role} master {bridge} up"));
        container.ip("link set eth0 up");
        for address in addresses {
            container.ip(&format!("addr add {address} dev eth0{}", nodad(address)));
        }
        for gateway in gateways {
            container.ip(&format!("route add default via {gateway}"));
        }
        container
    }
}

/// An IPv6 address is usable at once only without duplicate address detection.
fn nodad(address: &str) -> &'static str {
    if address.contains(':') { " nodad" } else { "" }
}
