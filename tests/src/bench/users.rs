//! What a user feels: client, host and server bound to one CPU, so that what is reached in a second is the inverse
//! of what all of it costs.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::sys::socket::{Shutdown, shutdown};

use super::{
    Plan,
    contender::{Stage, TO_PORT, warm},
    driver::pin,
    report::{Better, Figure},
};
use crate::lab::{Netns, PATIENCE};

const CPU: usize = 0;
const CONNECTIONS: &str = "new connections";
const REQUESTS: &str = "UDP request and response";
const P99: &str = "UDP request and response, p99";
const STREAM: &str = "TCP stream";

/// Measures what users feel, inward.
pub(super) fn measure(stage: &Stage, plan: &Plan) -> Vec<Figure> {
    let (address, port) = stage.target();
    let to = SocketAddr::new(address.parse().expect("an address"), port);
    let time = Duration::from_millis(plan.time);
    let mut figures = Vec::new();
    warm(stage);
    if plan.wants(CONNECTIONS) {
        let server = tcp_server(&stage.lab.container, answer);
        let value = connections(&stage.lab.lan, to, time);
        drop(server);
        figures.push((CONNECTIONS, "per second", Better::More, value));
    }
    if plan.wants(REQUESTS) {
        let server = udp_server(&stage.lab.container);
        let (rate, p99) = requests(&stage.lab.lan, to, time);
        drop(server);
        figures.push((REQUESTS, "per second", Better::More, rate));
        figures.push((P99, "µs", Better::Less, p99));
    }
    if plan.wants(STREAM) {
        let server = tcp_server(&stage.lab.container, swallow);
        let value = stream(&stage.lab.lan, to, time);
        drop(server);
        figures.push((STREAM, "Gbit/s", Better::More, value));
    }
    figures
}

/// A server that runs until this is dropped.
struct Server<'a> {
    /// Makes the thread look whether it is still wanted, and find that it is not.
    wake: Box<dyn Fn() + 'a>,
    thread: Option<JoinHandle<()>>,
}

impl<'a> Server<'a> {
    fn new(wake: impl Fn() + 'a, thread: JoinHandle<()>) -> Self {
        Self {
            wake: Box::new(wake),
            thread: Some(thread),
        }
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        (self.wake)();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// One connection after the other.
fn tcp_server(netns: &Netns, serve: fn(TcpStream)) -> Server<'_> {
    let any = SocketAddr::from(([0, 0, 0, 0], TO_PORT));
    let listener = netns.enter(move || TcpListener::bind(any).expect("the server's port"));
    let own = listener.try_clone().expect("a descriptor");
    let thread = netns.spawn(move || {
        pin(CPU);
        while let Ok((stream, _)) = listener.accept() {
            serve(stream);
        }
    });
    let wake = move || {
        let _already_down = shutdown(own.as_raw_fd(), Shutdown::Both);
    };
    Server::new(wake, thread)
}

/// A byte for a byte, and the end from this side, so that no port of the client's is kept waiting.
fn answer(mut stream: TcpStream) {
    let mut byte = [0];
    if stream.read_exact(&mut byte).is_ok() {
        drop(stream.write_all(&byte));
    }
}

/// Takes all there is, and says how much it was.
fn swallow(mut stream: TcpStream) {
    let mut buffer = vec![0; 1 << 18];
    let mut all = 0_u64;
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        all += length as u64;
    }
    drop(stream.write_all(&all.to_be_bytes()));
}

fn udp_server(netns: &Netns) -> Server<'_> {
    let any = SocketAddr::from(([0, 0, 0, 0], TO_PORT));
    let socket = netns.enter(move || UdpSocket::bind(any).expect("the server's port"));
    let thread = netns.spawn(move || {
        pin(CPU);
        let mut buffer = [0; 64];
        // Woken, it receives a datagram of no bytes, which no client sends.
        while let Ok((length @ 1.., from)) = socket.recv_from(&mut buffer) {
            drop(socket.send_to(&buffer[..length], from));
        }
    });
    let wake = || {
        netns.enter(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            socket
                .send_to(&[], ("127.0.0.1", TO_PORT))
                .expect("a datagram");
        });
    };
    Server::new(wake, thread)
}

fn connections(netns: &Netns, to: SocketAddr, time: Duration) -> f64 {
    netns.enter(move || {
        pin(CPU);
        let mut done = 0_u32;
        let start = Instant::now();
        while start.elapsed() < time {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE).expect("a connection");
            stream.write_all(&[7]).expect("a request");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("an answer");
            assert_eq!(all, [7]);
            done += 1;
        }
        f64::from(done) / start.elapsed().as_secs_f64()
    })
}

/// Requests per second, and the slowest hundredth's time in microseconds.
fn requests(netns: &Netns, to: SocketAddr, time: Duration) -> (f64, f64) {
    netns.enter(move || {
        pin(CPU);
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect(to).expect("the server's address");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut took = Vec::new();
        let start = Instant::now();
        let mut number = 0_u64;
        while start.elapsed() < time {
            let sent = Instant::now();
            number += 1;
            socket.send(&number.to_ne_bytes()).expect("a request");
            let mut answer = [0; 8];
            socket.recv(&mut answer).expect("an answer");
            assert_eq!(u64::from_ne_bytes(answer), number);
            took.push(sent.elapsed());
        }
        let rate = took.len() as f64 / start.elapsed().as_secs_f64();
        took.sort_unstable();
        let p99 = took[took.len() * 99 / 100];
        (rate, p99.as_nanos() as f64 / 1000.0)
    })
}

fn stream(netns: &Netns, to: SocketAddr, time: Duration) -> f64 {
    netns.enter(move || {
        pin(CPU);
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).expect("a connection");
        let buffer = vec![0x5a; 1 << 17];
        let mut sent = 0_u64;
        let start = Instant::now();
        while start.elapsed() < time {
            stream.write_all(&buffer).expect("the stream");
            sent += buffer.len() as u64;
        }
        stream.shutdown(std::net::Shutdown::Write).expect("the end");
        let mut arrived = [0; 8];
        stream.read_exact(&mut arrived).expect("the server's count");
        let elapsed = start.elapsed();
        assert_eq!(u64::from_be_bytes(arrived), sent, "bytes that arrived");
        sent as f64 * 8.0 / elapsed.as_secs_f64() / 1e9
    })
}
