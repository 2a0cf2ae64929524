//! Networks whose addresses are also somewhere outside.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::super::{Found, Subject, fine, todo};

/// A route of the host, by the interface that it leads out of.
struct Route {
    to: IpNet,
    interface: String,
}

pub(super) fn look(subject: &Subject) -> Found {
    let routes = routes();
    let mut found = Found::new();
    for (network, _) in &subject.desired.networks {
        for subnet in &network.subnets {
            let elsewhere = routes.iter().filter(|route| {
                let overlaps = route.to.contains(subnet) || subnet.contains(&route.to);
                // The default route holds everything, and means nobody in particular.
                overlaps && route.to.prefix_len() > 0 && route.interface != network.bridge
            });
            for route in elsewhere {
                found.push(todo(
                    format!(
                        "{subnet} of {} overlaps the route to {} by {}: those addresses are not reached",
                        network.bridge, route.to, route.interface
                    ),
                    "give one of the two another subnet (Docker: `bip` and `default-address-pools` in daemon.json)",
                ));
            }
        }
    }
    if found.is_empty() {
        found.push(fine("no network overlaps a route of this host"));
    }
    found
}

fn routes() -> Vec<Route> {
    let four = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    let six = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let mut routes: Vec<_> = four.lines().filter_map(ipv4).collect();
    routes.extend(six.lines().filter_map(ipv6));
    routes
}

/// A line of `/proc/net/route`: addresses are in the host's byte order, in hexadecimal.
fn ipv4(line: &str) -> Option<Route> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let [interface, to, _, _, _, _, _, mask, ..] = words.as_slice() else {
        return None;
    };
    let address = |text| {
        Some(Ipv4Addr::from(
            u32::from_str_radix(text, 16).ok()?.to_ne_bytes(),
        ))
    };
    let to = IpNet::with_netmask(IpAddr::V4(address(to)?), IpAddr::V4(address(mask)?)).ok()?;
    Some(Route {
        to,
        interface: (*interface).to_owned(),
    })
}

/// A line of `/proc/net/ipv6_route`. Those of link-local and multicast addresses are on every interface.
fn ipv6(line: &str) -> Option<Route> {
    /// `RTF_REJECT` and `RTF_LOCAL` of include/uapi/linux/ipv6_route.h and route.h.
    const NOT_FORWARDED: u32 = 0x0200 | 0x8000_0000;
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let [to, bits, _, _, _, _, _, _, flags, interface] = words.as_slice() else {
        return None;
    };
    let to = Ipv6Addr::from(u128::from_str_radix(to, 16).ok()?);
    let flags = u32::from_str_radix(flags, 16).ok()?;
    if to.is_multicast() || to.is_unicast_link_local() || flags & NOT_FORWARDED != 0 {
        return None;
    }
    let to = IpNet::new(IpAddr::V6(to), u8::from_str_radix(bits, 16).ok()?).ok()?;
    Some(Route {
        to,
        interface: (*interface).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_the_kernel_prints_them() {
        let route = ipv4("eth0\t0002000A\t0100A8C0\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0").unwrap();
        assert_eq!(
            (route.to.to_string().as_str(), route.interface.as_str()),
            ("10.0.2.0/24", "eth0")
        );
        assert!(
            ipv4("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU").is_none()
        );
        let line = |to: &str, flags| {
            format!(
                "{to} 40 {0:032} 00 {0:032} 00000100 00000001 00000000 {flags} eth0",
                0
            )
        };
        let route = ipv6(&line("fd000017000000000000000000000000", "00000001")).unwrap();
        assert_eq!(route.to.to_string(), "fd00:17::/64");
        assert!(ipv6(&line("fe800000000000000000000000000000", "00000001")).is_none());
        assert!(ipv6(&line("fd000017000000000000000000000000", "80200001")).is_none());
    }
}
