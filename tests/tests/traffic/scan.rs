//! What a stranger on the link finds: the published ports, every one and no other.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use datapath_common::family::V4;
use datapath_tests::lab::{
    Datapath, Lab, PATIENCE, PORTS, send_frame, tcp_echo, udp_echo, wait_until,
};
use datapath_user::kernel::{life::Tier, tables::Tables};
use etherparse::{PacketBuilder, VlanId};

/// Ports of TCP on which somebody takes a connection.
fn scan_tcp() -> BTreeSet<u16> {
    (1..=u16::MAX)
        .filter(|port| {
            let to = SocketAddr::from(([203, 0, 113, 2], *port));
            match TcpStream::connect_timeout(&to, PATIENCE) {
                Ok(_) => true,
                Err(error) => {
                    assert_eq!(
                        error.kind(),
                        ErrorKind::ConnectionRefused,
                        "{port}: {error}"
                    );
                    false
                }
            }
        })
        .collect()
}

/// Ports of UDP that answer.
fn scan_udp() -> BTreeSet<u16> {
    let socket = UdpSocket::bind("203.0.113.9:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut open = BTreeSet::new();
    let hear = |open: &mut BTreeSet<u16>| {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 100]) {
            open.insert(from.port());
        }
    };
    for port in 1..=u16::MAX {
        let to = SocketAddr::from(([203, 0, 113, 2], port));
        // The interface's queue may be full for a moment.
        wait_until("a datagram to leave", || socket.send_to(b"?", to).is_ok());
        if port % 64 == 0 {
            hear(&mut open);
        }
    }
    socket.set_nonblocking(false).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    hear(&mut open);
    open
}

#[test]
fn a_scan_finds_the_published_ports_and_leaves_no_state() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, PORTS);
    for port in [80, 81] {
        tcp_echo(&lab.container, &format!("0.0.0.0:{port}"));
    }
    for port in [53, 54] {
        udp_echo(&lab.container, &format!("0.0.0.0:{port}"));
    }
    assert_eq!(lab.lan.enter(scan_tcp), BTreeSet::from([8080]));
    assert_eq!(lab.lan.enter(scan_udp), BTreeSet::from([5300]));
    // A connection and a conversation, two entries each.
    let tables = Tables::new(datapath.pins());
    let entries: u64 = [Tier::Half, Tier::Established]
        .map(|tier| tables.batched::<V4>(tier).unwrap().count().unwrap())
        .iter()
        .sum();
    assert_eq!(entries, 4);
}

/// A datagram to a published port, in a frame with a tag of this VLAN.
fn tagged(vlan: u16, from: u16) -> Vec<u8> {
    let vlan = VlanId::try_new(vlan).unwrap();
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
        .single_vlan(vlan)
        .ipv4([203, 0, 113, 9], [203, 0, 113, 2], 64)
        .udp(from, 5300);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"urgent").unwrap();
    frame
}

/// IEEE 802.1Q, 6.9: a tag that names no VLAN says how urgent a frame is, not whose. One that names a VLAN makes the
/// frame another interface's.
#[test]
fn a_priority_tag_makes_no_difference() {
    let lab = Lab::new();
    lab.host.ip("link set eth0 address 02:00:00:00:00:01");
    let _datapath = Datapath::start(&lab, PORTS);
    udp_echo(&lab.container, "0.0.0.0:53");
    let client = |port: u16| {
        let client = lab
            .lan
            .enter(move || UdpSocket::bind(("203.0.113.9", port)).unwrap());
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    };
    let (other, plain) = (client(40_005), client(40_000));
    send_frame(&lab.lan, "eth0", &tagged(5, 40_005)).unwrap();
    send_frame(&lab.lan, "eth0", &tagged(0, 40_000)).unwrap();
    let mut buffer = [0; 100];
    let (length, from) = plain.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"203.0.113.9:40000 urgent");
    assert_eq!(from, "203.0.113.2:5300".parse().unwrap());
    // It was sent first, and is not on its way any more.
    other.set_nonblocking(true).unwrap();
    assert!(
        other.recv_from(&mut buffer).is_err(),
        "a VLAN's frame was let in"
    );
}
