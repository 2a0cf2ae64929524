//! Processes of the host itself: their calls are led to the container, and they never notice.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use datapath_tests::lab::{
    Datapath, Lab, PATIENCE, run, tcp_echo, tcp_echo_each, tcp_exchange, udp_echo, udp_server,
};

const PUBLISHED: &str = r#"
[[publish]]
listen = "0.0.0.0:8080"
to = "172.17.0.2:80"
protocol = "tcp"
[[publish]]
listen = "0.0.0.0:5353"
to = "172.17.0.2:53"
protocol = "udp"
[[publish]]
listen = "127.0.0.2:9000"
to = "172.17.0.2:80"
protocol = "tcp"
[[publish]]
listen = "[::]:8080"
to = "172.17.0.2:80"
protocol = "tcp"
"#;

fn published() -> (Lab, Datapath) {
    let lab = Lab::new();
    tcp_echo(&lab.container, "172.17.0.2:80");
    udp_echo(&lab.container, "172.17.0.2:53");
    let datapath = Datapath::start(&lab, PUBLISHED);
    (lab, datapath)
}

#[test]
fn tcp_on_every_address_of_the_host() {
    let (lab, _datapath) = published();
    for addr in [
        "127.0.0.1:8080",
        "127.9.9.9:8080",
        "0.0.0.0:8080",
        "203.0.113.2:8080",
        "172.17.0.1:8080",
        "127.0.0.2:9000",
        "[::1]:8080",
        "[::ffff:127.0.0.1]:8080",
        "[::ffff:203.0.113.2]:8080",
    ] {
        let answer = tcp_exchange(&lab.host, addr, b"hello".to_vec());
        assert_eq!(answer.expect(addr), b"hello", "{addr}");
    }
}

#[test]
fn an_address_bound_port_answers_there_alone() {
    let (lab, _datapath) = published();
    for addr in ["127.0.0.1:9000", "203.0.113.2:9000", "172.17.0.2:9000"] {
        let refused = tcp_exchange(&lab.host, addr, b"hello".to_vec()).expect_err(addr);
        assert_eq!(
            refused.kind(),
            std::io::ErrorKind::ConnectionRefused,
            "{addr}"
        );
    }
}

#[test]
fn the_peer_is_the_address_that_was_dialled() {
    let (lab, _datapath) = published();
    lab.host.enter(|| {
        for addr in [
            "127.0.0.1:8080",
            "203.0.113.2:8080",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:8080",
        ] {
            let addr: SocketAddr = addr.parse().unwrap();
            let stream = TcpStream::connect(addr).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), addr);
        }
        // No address is the host's own, as the kernel itself has it.
        for (none, own) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
        ] {
            let stream = TcpStream::connect(none).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), own.parse().unwrap());
        }
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let addr: SocketAddr = "127.0.0.1:5353".parse().unwrap();
        socket.connect(addr).unwrap();
        assert_eq!(socket.peer_addr().unwrap(), addr);
    });
}

#[test]
fn datagrams_come_from_the_address_they_were_sent_to() {
    let (lab, _datapath) = published();
    lab.host.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let dual = UdpSocket::bind("[::]:0").unwrap();
        dual.set_read_timeout(Some(PATIENCE)).unwrap();
        for (socket, addr) in [
            (&socket, "127.0.0.1:5353"),
            (&socket, "203.0.113.2:5353"),
            (&socket, "172.17.0.1:5353"),
            (&socket, "127.0.0.1:5353"),
            (&dual, "[::ffff:127.0.0.1]:5353"),
            (&dual, "[::ffff:203.0.113.2]:5353"),
        ] {
            let addr: SocketAddr = addr.parse().unwrap();
            socket.send_to(b"hello", addr).unwrap();
            let mut buffer = [0; 100];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            assert!(text.ends_with(" hello"), "{text}");
            assert_eq!(from, addr);
        }
    });
}

/// Docker holds each published port with a socket that listens and never accepts.
#[test]
fn a_socket_that_listens_on_the_port_never_gets_the_connection() {
    let (lab, _datapath) = published();
    let decoy = lab
        .host
        .enter(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    for addr in ["127.0.0.1:8080", "203.0.113.2:8080"] {
        let answer = tcp_exchange(&lab.host, addr, b"hello".to_vec());
        assert_eq!(answer.unwrap(), b"hello", "{addr}");
    }
    decoy.set_nonblocking(true).unwrap();
    let waiting = decoy.accept().map(|(_, from)| from);
    assert_eq!(waiting.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// The hooks see every process of the machine; another network namespace's calls are its own affair.
#[test]
fn other_network_namespaces_are_left_alone() {
    let (lab, _datapath) = published();
    lab.container.enter(|| {
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let mut stream = TcpStream::connect("127.0.0.1:8080").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"mine").unwrap();
        drop(server);
        let mut answer = String::new();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "mine");
    });
}

/// What the kernel side does needs no service: neither for connections that are, nor for those to come.
#[test]
fn the_host_reaches_its_ports_without_the_service() {
    let (lab, mut datapath) = published();
    let echo = || tcp_exchange(&lab.host, "127.0.0.1:8080", b"hello".to_vec());
    datapath.kill();
    assert_eq!(echo().unwrap(), b"hello");
    datapath.restart();
    assert_eq!(echo().unwrap(), b"hello");
}

/// Sends a word on a connection, and says what came back.
fn echoed(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut answer = [0; 5];
    stream.write_all(b"hello")?;
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"hello");
    Ok(())
}

/// Sends a datagram on a socket that is connected, and says who answered.
fn answered(socket: &UdpSocket) -> std::io::Result<String> {
    let mut answer = [0; 100];
    socket.send(b"who?")?;
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// The kernel leads a socket once. What it dialled may be another container's by now, and its address too.
#[test]
fn what_was_dialled_ends_when_it_leads_elsewhere() {
    let lab = Lab::new();
    let other = lab.add_container("o", "docker0", &["172.17.0.3/16"], &["172.17.0.1"]);
    for (netns, addr, name) in [
        (&lab.container, "172.17.0.2", "first"),
        (&other, "172.17.0.3", "second"),
    ] {
        tcp_echo_each(netns, &format!("{addr}:80"));
        udp_server(netns, &format!("{addr}:53"), name);
    }
    let datapath = Datapath::start(&lab, "");
    let cli = |arguments: &[&str]| drop(run(&mut datapath.command(arguments)));
    for port in ["8080:80", "8081:80", "5353:53/udp", "5354:53/udp"] {
        cli(&["publish", port, "--to", "172.17.0.2"]);
    }
    lab.host.enter(|| {
        let connect = |addr: &str| {
            let mut stream = TcpStream::connect(addr).expect(addr);
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            echoed(&mut stream).expect(addr);
            stream
        };
        let dial = |addr: &str| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(addr).unwrap();
            assert_eq!(answered(&socket).expect(addr), "first");
            socket
        };
        let ended = [
            "127.0.0.1:8080",
            "203.0.113.2:8080",
            "[::ffff:127.0.0.1]:8080",
        ]
        .map(connect);
        let mut kept = ["127.0.0.1:8081", "172.17.0.2:80"].map(connect);
        let (moves, stays) = (dial("127.0.0.1:5353"), dial("127.0.0.1:5354"));

        cli(&["unpublish", "8080"]);
        cli(&["unpublish", "5353/udp"]);
        for mut stream in ended {
            let told = stream
                .read(&mut [0; 5])
                .expect_err("a connection to a withdrawn port");
            assert_eq!(told.kind(), std::io::ErrorKind::ConnectionAborted);
        }
        // The container may be started anew, where it was.
        assert_eq!(answered(&moves).unwrap(), "first");

        cli(&["publish", "5353:53/udp", "--to", "172.17.0.3"]);
        let told = moves
            .recv(&mut [0; 100])
            .expect_err("a socket to the former container");
        assert_eq!(told.kind(), std::io::ErrorKind::ConnectionAborted);
        moves.connect("127.0.0.1:5353").unwrap();
        assert_eq!(answered(&moves).unwrap(), "second");
        assert_eq!(answered(&stays).unwrap(), "first");
        for stream in &mut kept {
            echoed(stream).expect("a connection that leads where it did");
        }
    });
}
