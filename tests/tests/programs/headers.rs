//! IPv4 options, IPv6 extension headers and what is not IP: translated where they can be followed, and never mistaken.

use datapath_common::{proto::ext, reason::Reason};

use crate::{
    frame::{ETHERNET, Frame, SYN, ping, tcp, udp},
    host::{Hook, Host, nets},
};

#[test]
fn ipv4_options_of_every_length() {
    let host = Host::new();
    let [net, _] = nets();
    let (client, inside, server) = (net.world(40000), net.endpoint(7), net.world(9));
    for (number, length) in (4..=40).step_by(4).enumerate() {
        let says = format!("{length} bytes");
        let with = |frame: Frame| frame.options(&vec![1; length]);
        let first = |reason, later| if number == 0 { reason } else { later };
        let published = first(Reason::Publish, Reason::Flow);
        let out = first(Reason::Masquerade, Reason::Flow);
        host.case(&says, Hook::Arrives, with(tcp(client, net.host(8080), SYN)))
            .becomes(published, with(tcp(client, net.endpoint(80), SYN)));
        host.case(&says, Hook::Arrives, with(udp(client, net.host(5300))))
            .becomes(published, with(udp(client, net.endpoint(53))));
        host.case(&says, Hook::Leaves, with(udp(inside, server)))
            .becomes(out, with(udp(net.host(7), server)));
        host.case(&says, Hook::Leaves, with(ping(inside, net.world(0))))
            .becomes(out, with(ping(net.host(7), net.world(0))));
    }
}

/// The packet with so many extension headers before what it carries.
pub(crate) fn extended(frame: &Frame, count: usize) -> Vec<u8> {
    let kinds = [ext::HOP_BY_HOP, ext::DESTINATION, ext::ROUTING];
    let kinds: Vec<_> = kinds.into_iter().cycle().take(count).collect();
    let mut bytes = frame.bytes();
    let carried = std::mem::replace(&mut bytes[ETHERNET + 6], kinds[0]);
    let mut headers = Vec::new();
    for (number, kind) in kinds.iter().enumerate() {
        let next = kinds.get(number + 1).copied().unwrap_or(carried);
        // Padding of one or three units; a routing header that has no segment left.
        let more = if *kind == ext::DESTINATION { 2 } else { 0 };
        let mut header = vec![0; 8 * (1 + more)];
        (header[0], header[1]) = (next, more as u8);
        if *kind != ext::ROUTING {
            (header[2], header[3]) = (1, (8 * (1 + more) - 4) as u8);
        }
        headers.extend(header);
    }
    let length = u16::from_be_bytes([bytes[ETHERNET + 4], bytes[ETHERNET + 5]]);
    let length = length + headers.len() as u16;
    bytes[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&length.to_be_bytes());
    bytes.splice(ETHERNET + 40..ETHERNET + 40, headers);
    bytes
}

#[test]
fn ipv6_extension_headers_as_far_as_they_are_followed() {
    let host = Host::new();
    let [_, net] = nets();
    let (client, inside, server) = (net.world(40000), net.endpoint(7), net.world(9));
    for count in 1..=ext::MAX {
        let says = format!("{count} headers");
        let first = |reason| if count == 1 { reason } else { Reason::Flow };
        host.case(&says, Hook::Arrives, {
            extended(&tcp(client, net.host(8080), SYN), count)
        })
        .becomes(first(Reason::Publish), {
            extended(&tcp(client, net.endpoint(80), SYN), count)
        });
        host.case(&says, Hook::Leaves, extended(&udp(inside, server), count))
            .becomes(first(Reason::Masquerade), {
                extended(&udp(net.host(7), server), count)
            });
    }
    for count in [ext::MAX + 1, 8, 16] {
        let says = format!("{count} headers");
        let (asks, leaves) = (tcp(client, net.host(8080), SYN), udp(inside, server));
        host.case(&says, Hook::Arrives, extended(&asks, count))
            .is(Reason::ExtensionHeaders);
        host.case(&says, Hook::Leaves, extended(&leaves, count))
            .is(Reason::Leak);
    }
}

/// Whatever a frame carries behind another EtherType, it is no packet here: VLANs within VLANs, MPLS, PPPoE, and one
/// of the other family.
#[test]
fn other_ethertypes_are_left_alone() {
    let host = Host::new();
    for net in nets() {
        let outward = tcp(net.endpoint(1), net.world(1), SYN);
        for (hook, frame) in [
            (Hook::Arrives, tcp(net.world(1), net.host(8080), SYN)),
            (Hook::Leaves, outward.clone()),
            (Hook::Bridge, outward),
        ] {
            for ethertype in [
                0x8100, 0x88a8, 0x8847, 0x8848, 0x8863, 0x8864, 0x0806, 0x9000_u16,
            ] {
                let mut bytes = frame.bytes();
                bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
                host.case(&format!("{ethertype:#x}"), hook, bytes)
                    .is(Reason::NotIp);
            }
        }
    }
}
