//! Servers in namespaces, and clients that talk to them.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use super::{Netns, PATIENCE};

/// More than any datagram holds.
const LARGEST: usize = 1 << 16;

/// A TCP server in a namespace that sends back what it gets until the client closes its half.
pub fn tcp_echo(netns: &Netns, addr: &str) {
    let addr = addr.to_owned();
    let listener = netns.enter(move || TcpListener::bind(addr).expect("the server's port"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut all = Vec::new();
                if stream.read_to_end(&mut all).is_ok() {
                    drop(stream.write_all(&all));
                }
            });
        }
    });
}

/// A TCP server in a namespace that sends everything back as it comes.
pub fn tcp_echo_each(netns: &Netns, addr: &str) {
    let addr = addr.to_owned();
    let listener = netns.enter(move || TcpListener::bind(addr).expect("the server's port"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            thread::spawn(move || drop(std::io::copy(&mut &stream, &mut &stream)));
        }
    });
}

/// A UDP server in a namespace that sends every datagram back, the sender's address before it.
pub fn udp_echo(netns: &Netns, addr: &str) {
    let addr = addr.to_owned();
    let socket = netns.enter(move || UdpSocket::bind(addr).expect("the server's port"));
    thread::spawn(move || {
        let mut buffer = vec![0; LARGEST];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = format!("{from} ").into_bytes();
            answer.extend(buffer.get(..length).unwrap_or_default());
            drop(socket.send_to(&answer, from));
        }
    });
}

/// A UDP server in a namespace that answers every datagram with `answer`.
pub fn udp_server(netns: &Netns, addr: &str, answer: &str) {
    let (addr, answer) = (addr.to_owned(), answer.to_owned());
    let socket = netns.enter(move || UdpSocket::bind(addr).expect("the server's port"));
    thread::spawn(move || {
        let mut buffer = vec![0; LARGEST];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            drop(socket.send_to(answer.as_bytes(), from));
        }
    });
}

/// Sends `payload` over a new connection and returns what came back.
///
/// # Errors
/// As the socket's.
pub fn tcp_exchange(netns: &Netns, to: &str, payload: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let to: SocketAddr = to.parse().expect("an address");
    netns.enter(move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&payload)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    })
}

/// Sends a datagram and returns the answer, as text.
///
/// # Errors
/// As the socket's.
pub fn udp_exchange(netns: &Netns, to: &str, payload: &str) -> std::io::Result<String> {
    let (to, payload) = (to.to_owned(), payload.to_owned());
    netns.enter(move || {
        let any = if to.starts_with('[') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect(to)?;
        socket.send(payload.as_bytes())?;
        let mut buffer = vec![0; LARGEST];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}
