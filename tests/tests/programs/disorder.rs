//! Fragments in every order, as real traffic: sent one by one, put together by the receiver's own kernel.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
    time::Duration,
};

use datapath_tests::lab::Netns;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};

use crate::{
    frame::{ETHERNET, Frame, udp},
    host::{Host, nets},
};

const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];
/// Between one fragment and the next.
const GAPS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_micros(200),
    Duration::from_millis(1),
];
/// A machine under load may stretch a gap to more than anything waits: then it is tried again.
const TRIES: usize = 10;

/// Sends the fragments of a datagram in this order, as they are.
fn send(from: &Netns, to: SocketAddr, frame: &Frame, order: [usize; 3], gap: Duration) {
    let fragments = frame.fragments(40);
    from.enter(|| {
        let family = if to.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let raw = socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).unwrap();
        let to = SockaddrStorage::from(SocketAddr::new(to.ip(), 0));
        for number in order {
            let packet = &fragments[number][ETHERNET..];
            let sent = sendto(raw.as_raw_fd(), packet, &to, MsgFlags::empty()).unwrap();
            assert_eq!(sent, packet.len());
            if !gap.is_zero() {
                thread::sleep(gap);
            }
        }
    });
}

/// The sender of the next datagram, if it is this one.
fn receive(socket: &UdpSocket, payload: &[u8]) -> Option<IpAddr> {
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).ok()?;
        if buffer.get(..length) == Some(payload) {
            return Some(from.ip().to_canonical());
        }
    }
}

fn listen(netns: &Netns, port: u16) -> UdpSocket {
    netns.enter(|| {
        let socket = UdpSocket::bind(("::", port)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        socket
    })
}

#[test]
fn fragments_in_every_order_arrive() {
    for keys in ["forwarding = \"kernel\"", ""] {
        let host = Host::with(keys, "");
        let lab = &host.lab;
        let (inside, outside) = (listen(&lab.container, 53), listen(&lab.lan, 5353));
        let mut id = 0u16;
        let mut lost = 0;
        for net in nets() {
            let inward = (
                &lab.lan,
                net.world(40000),
                net.host(5300),
                &inside,
                net.world,
            );
            let outward = (
                &lab.container,
                net.endpoint(7000),
                net.world(5353),
                &outside,
                net.host,
            );
            for (sender, from, to, receiver, seen) in [inward, outward] {
                for order in ORDERS {
                    for gap in GAPS {
                        let arrived = (0..TRIES).any(|_| {
                            id += 1;
                            let payload: Vec<u8> = (0..100).map(|byte| byte ^ id as u8).collect();
                            let frame = udp(from, to).payload(&payload).id(id);
                            send(sender, to, &frame, order, gap);
                            let arrived = receive(receiver, &payload);
                            assert!(arrived.is_none_or(|from| from == seen), "{arrived:?}");
                            lost += usize::from(arrived.is_none());
                            arrived.is_some()
                        });
                        assert!(arrived, "{from} to {to}: {order:?} with {gap:?} between");
                    }
                }
            }
        }
        println!("{keys}: {lost} of {id} datagrams lost");
    }
}
