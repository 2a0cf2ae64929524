//! What processes of the host dialled is remembered for as long as their sockets are open, and no longer.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket},
};

use datapath_common::{
    binding::BindingKey,
    family::{Addr4, V4},
    proto,
};
use datapath_tests::lab::{
    Datapath, Lab, Netns, PATIENCE, run, tcp_echo_each, udp_server, wait_until,
};
use datapath_user::kernel::tables::Tables;

fn publish(datapath: &Datapath, port: &str, to: &str) {
    run(&mut datapath.command(&["publish", port, "--to", to]));
}

fn connect(host: &Netns, addr: &str) -> TcpStream {
    let stream = host.enter(|| TcpStream::connect(addr)).expect(addr);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The connection is over, and its process is told so.
fn is_aborted(mut stream: TcpStream) {
    let told = stream
        .read(&mut [0; 5])
        .expect_err("a connection that is over");
    assert_eq!(told.kind(), std::io::ErrorKind::ConnectionAborted);
}

fn carries(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 5];
    stream.write_all(b"hello").is_ok() && stream.read_exact(&mut answer).is_ok()
}

/// One that has said all that it has to say may still be told something.
#[test]
fn a_connection_that_is_half_closed_ends_with_its_port() {
    let lab = Lab::new();
    let listener = lab
        .container
        .enter(|| TcpListener::bind("172.17.0.2:80").unwrap());
    let datapath = Datapath::start(&lab, "");
    publish(&datapath, "8080:80", "172.17.0.2");
    let mut client = connect(&lab.host, "127.0.0.1:8080");
    let (mut server, _) = listener.accept().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    // It is acknowledged before the answer.
    assert_eq!(server.read(&mut [0; 5]).unwrap(), 0);
    server.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    run(&mut datapath.command(&["unpublish", "8080"]));
    is_aborted(client);
}

/// It had taken the port away, and the connections of the host's own were still to come.
#[test]
fn what_a_killed_service_left_ends_at_the_next_start() {
    let lab = Lab::new();
    tcp_echo_each(&lab.container, "172.17.0.2:80");
    let mut datapath = Datapath::start(&lab, "");
    for port in ["8080:80", "8081:80"] {
        publish(&datapath, port, "172.17.0.2");
    }
    let [over, stays] = ["127.0.0.1:8080", "127.0.0.1:8081"].map(|to| connect(&lab.host, to));
    datapath.kill();
    let (_, mut bindings) = Tables::new(datapath.pins()).bindings::<V4>().unwrap();
    let every = Addr4(Ipv4Addr::UNSPECIFIED.octets());
    bindings
        .remove(&BindingKey::<V4>::new(every, 8080, proto::TCP))
        .unwrap();
    assert!(carries(&over) && carries(&stays));
    datapath.restart();
    is_aborted(over);
    assert!(carries(&stays));
    // One that is dialled instead from now on takes nothing from those that were before.
    publish(&datapath, "127.0.0.1:8081:80", "172.17.0.3");
    datapath.kill();
    datapath.restart();
    assert!(carries(&stays));
}

/// There is room for 65,536 of each family.
#[test]
fn many_that_were_closed_push_out_none_that_is_open() {
    let lab = Lab::new();
    tcp_echo_each(&lab.container, "172.17.0.2:80");
    udp_server(&lab.container, "172.17.0.2:53", "here");
    let config = "[conntrack]\ngc_interval = \"1s\"\n";
    let datapath = Datapath::start(&lab, config);
    publish(&datapath, "8080:80", "172.17.0.2");
    publish(&datapath, "5353:53/udp", "172.17.0.2");
    let open = connect(&lab.host, "127.0.0.1:8080");
    let mut asked = lab.host.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    asked.connect("127.0.0.1:5353").unwrap();
    let peers = Tables::new(datapath.pins()).peers::<V4>().unwrap();
    for _ in 0..3 {
        lab.host.enter(|| {
            for _ in 0..30_000 {
                asked = UdpSocket::bind("0.0.0.0:0").unwrap();
                asked.connect("127.0.0.1:5353").unwrap();
            }
        });
        wait_until("what closed sockets dialled is forgotten", || {
            peers.count().unwrap() == 2
        });
    }
    let peer = |addr: std::io::Result<std::net::SocketAddr>| addr.unwrap().to_string();
    assert_eq!(peer(asked.peer_addr()), "127.0.0.1:5353");
    assert_eq!(peer(open.peer_addr()), "127.0.0.1:8080");
    assert!(carries(&open));
    run(&mut datapath.command(&["unpublish", "8080"]));
    is_aborted(open);
}

/// Where it was led before is of no meaning then.
#[test]
fn a_socket_that_dials_an_endpoint_itself_is_led_no_more() {
    let lab = Lab::new();
    let other = lab.add_container("o", "docker0", &["172.17.0.3/16"], &["172.17.0.1"]);
    udp_server(&lab.container, "172.17.0.2:53", "first");
    udp_server(&other, "172.17.0.3:53", "second");
    let datapath = Datapath::start(&lab, "");
    publish(&datapath, "5353:53/udp", "172.17.0.2");
    let ask = |socket: &UdpSocket| {
        let mut answer = [0; 10];
        socket.send(b"who?").unwrap();
        let length = socket.recv(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    for (any, published, itself) in [
        ("0.0.0.0:0", "127.0.0.1:5353", "172.17.0.2:53"),
        (
            "[::]:0",
            "[::ffff:127.0.0.1]:5353",
            "[::ffff:172.17.0.2]:53",
        ),
    ] {
        let socket = lab.host.enter(|| UdpSocket::bind(any).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        for dialled in [published, itself] {
            socket.connect(dialled).unwrap();
            assert_eq!(socket.peer_addr().unwrap(), dialled.parse().unwrap());
            assert_eq!(ask(&socket), "first");
        }
        run(&mut datapath.command(&["unpublish", "5353/udp"]));
        publish(&datapath, "5353:53/udp", "172.17.0.3");
        assert_eq!(ask(&socket), "first");
        run(&mut datapath.command(&["unpublish", "5353/udp"]));
        publish(&datapath, "5353:53/udp", "172.17.0.2");
    }
}
