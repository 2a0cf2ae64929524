//! The host's own processes and the containers, over IPv6 and with IPv4-mapped addresses.

use std::net::{SocketAddr, TcpStream, UdpSocket};

use datapath_tests::lab::{
    Datapath, Lab, Netns, PATIENCE, PORTS, tcp_echo, tcp_exchange, udp_echo,
};

fn published() -> (Lab, Netns, Datapath) {
    let lab = Lab::new();
    lab.add_ipv6();
    let neighbour = lab.add_container(
        "n",
        "docker0",
        &["172.17.0.3/16", "fd00:17::3/64"],
        &["172.17.0.1", "fd00:17::1"],
    );
    tcp_echo(&lab.container, "[::]:80");
    udp_echo(&lab.container, "[::]:53");
    let datapath = Datapath::start(&lab, PORTS);
    (lab, neighbour, datapath)
}

/// Sends a datagram to each address, and sees that the answer comes from there.
fn answers_come_from_where_they_were_asked(netns: &Netns, addrs: &'static [&str]) {
    netns.enter(move || {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        for addr in addrs {
            let addr: SocketAddr = addr.parse().unwrap();
            socket.send_to(b"hello", addr).unwrap();
            let mut buffer = [0; 100];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(from, addr);
            assert!(buffer[..length].ends_with(b" hello"));
        }
    });
}

#[test]
fn the_host_dials_and_sees_the_address_that_it_dialled() {
    let (lab, _neighbour, _datapath) = published();
    for addr in ["[::1]:8080", "[2001:db8::2]:8080", "[fd00:17::1]:8080"] {
        let answer = tcp_exchange(&lab.host, addr, b"hello".to_vec());
        assert_eq!(answer.expect(addr), b"hello", "{addr}");
    }
    lab.host.enter(|| {
        for addr in [
            "[::1]:8080",
            "[2001:db8::2]:8080",
            "[::ffff:203.0.113.2]:8080",
        ] {
            let addr: SocketAddr = addr.parse().unwrap();
            assert_eq!(TcpStream::connect(addr).unwrap().peer_addr().unwrap(), addr);
        }
        for addr in [
            "[::1]:5300",
            "[2001:db8::2]:5300",
            "[::ffff:127.0.0.1]:5300",
        ] {
            let addr: SocketAddr = addr.parse().unwrap();
            let socket = UdpSocket::bind("[::]:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(addr).unwrap();
            assert_eq!(socket.peer_addr().unwrap(), addr);
            socket.send(b"hello").unwrap();
            let mut buffer = [0; 100];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(from, addr);
            assert!(buffer[..length].ends_with(b" hello"));
        }
    });
    answers_come_from_where_they_were_asked(
        &lab.host,
        &[
            "[::1]:5300",
            "[2001:db8::2]:5300",
            "[fd00:17::1]:5300",
            "[::1]:5300",
        ],
    );
}

#[test]
fn a_neighbour_and_the_container_itself() {
    let (lab, neighbour, _datapath) = published();
    for from in [&neighbour, &lab.container] {
        for addr in ["[2001:db8::2]:8080", "[fd00:17::1]:8080"] {
            let payload: Vec<u8> = (0..262_144u32).map(|n| (n % 251) as u8).collect();
            let answer = tcp_exchange(from, addr, payload.clone()).expect(addr);
            assert!(answer == payload, "{addr}");
        }
        answers_come_from_where_they_were_asked(from, &["[2001:db8::2]:5300", "[fd00:17::1]:5300"]);
    }
}
