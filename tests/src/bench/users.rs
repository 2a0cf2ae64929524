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
    driver::pin,
    results::{Better, Figure, Measure},
    stage::{GATEWAY, PORT, Stage, TO_PORT},
};
use crate::lab::{Netns, PATIENCE};

const CPU: usize = 0;
/// Datagrams that are under way at a time: fewer than any socket's buffer holds, so that none is lost.
const WINDOW: u32 = 64;
/// What is asked and answered.
const MESSAGE: usize = 8;

/// The measurements of one direction.
struct Measures {
    connections: Measure,
    tcp_requests: Measure,
    udp_requests: Measure,
    datagrams: Measure,
    stream: Measure,
    tcp_latency: [Measure; 2],
    udp_latency: [Measure; 2],
}

/// Names a direction's measurements: those of how much, and those of how long.
macro_rules! measures {
    ($direction:literal) => {{
        const fn many(name: &'static str) -> Measure {
            Measure::new(name, "per second", Better::More)
        }
        const fn time(name: &'static str) -> Measure {
            Measure::new(name, "µs", Better::Less)
        }
        Measures {
            connections: many(concat!($direction, ": new connections")),
            tcp_requests: many(concat!($direction, ": TCP requests")),
            udp_requests: many(concat!($direction, ": UDP requests")),
            datagrams: many(concat!($direction, ": UDP datagrams")),
            stream: Measure::new(concat!($direction, ": TCP stream"), "Gbit/s", Better::More),
            tcp_latency: [
                time(concat!($direction, ", latency: TCP median")),
                time(concat!($direction, ", latency: TCP p99")),
            ],
            udp_latency: [
                time(concat!($direction, ", latency: UDP median")),
                time(concat!($direction, ", latency: UDP p99")),
            ],
        }
    }};
}

const INWARD: Measures = measures!("inward");
const OUTWARD: Measures = measures!("outward");
const HAIRPIN: Measures = measures!("hairpin");

/// A client, a server, and the address that the one knows the other by.
struct Pair<'a> {
    client: &'a Netns,
    server: &'a Netns,
    to: SocketAddr,
}

impl<'a> Pair<'a> {
    /// A client on the network, and a container.
    fn inward(stage: &'a Stage) -> Self {
        Self {
            client: &stage.lab.lan,
            server: &stage.lab.container,
            to: address(stage.target()),
        }
    }

    /// New connections per second.
    fn connections(&self, time: Duration) -> f64 {
        let _running = tcp_server(self.server, &[TO_PORT], answer);
        connections(self.client, vec![self.to], time)
    }
}

fn address((address, port): (&str, u16)) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

/// New connections per second from the network.
pub(super) fn inward_connections(stage: &Stage, time: Duration) -> f64 {
    Pair::inward(stage).connections(time)
}

/// Measures what users feel: both directions, and a container that asks for its neighbour's published port.
pub(super) fn measure(stage: &Stage, time: Duration) -> Vec<Figure> {
    let inward = Pair::inward(stage);
    let mut figures = pair(&inward, &INWARD, time);
    if stage.contender.turns_round() {
        // At the bridge's address, which docker-proxy answers datagrams from, whatever was asked.
        let hairpin = Pair {
            client: &stage.neighbour,
            to: address((GATEWAY, PORT)),
            ..inward
        };
        figures.extend(pair(&hairpin, &HAIRPIN, time));
    }
    // Nothing goes out by docker-proxy.
    if !stage.proxies.is_empty() {
        return figures;
    }
    let outward = Pair {
        client: &stage.lab.container,
        server: &stage.lab.lan,
        to: address(stage.world()),
    };
    figures.extend(pair(&outward, &OUTWARD, time));
    figures
}

fn pair(pair: &Pair<'_>, measures: &Measures, time: Duration) -> Vec<Figure> {
    let Pair { client, server, to } = *pair;
    let mut figures = vec![measures.connections.figure(pair.connections(time))];
    let ends = [TO_PORT];

    let running = tcp_server(server, &ends, echo);
    let took = tcp_requests(client, to, time);
    drop(running);
    figures.extend(took.figures(measures.tcp_requests, measures.tcp_latency));

    let running = udp_server(server, 1);
    let took = udp_requests(client, to, time);
    drop(running);
    figures.extend(took.figures(measures.udp_requests, measures.udp_latency));

    let running = udp_server(server, WINDOW);
    figures.push(measures.datagrams.figure(datagrams(client, to, time)));
    drop(running);

    let running = tcp_server(server, &ends, swallow);
    figures.push(measures.stream.figure(stream(client, to, time)));
    drop(running);
    figures
}

/// A server that runs until this is dropped.
pub(super) struct Server<'a> {
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

/// One connection after the other, on one port after the other: clients have to come in that order.
pub(super) fn tcp_server<'a>(netns: &'a Netns, ports: &[u16], serve: fn(TcpStream)) -> Server<'a> {
    let ports = ports.to_vec();
    let listeners: Vec<_> = netns.enter(move || {
        let listen = |port| TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port)));
        let ports = ports.into_iter();
        ports
            .map(|port| listen(port).expect("the server's port"))
            .collect()
    });
    let own: Vec<_> = listeners
        .iter()
        .map(|listener| listener.try_clone().expect("a descriptor"))
        .collect();
    let thread = netns.spawn(move || {
        pin(CPU);
        for listener in listeners.iter().cycle() {
            let Ok((stream, _)) = listener.accept() else {
                return;
            };
            serve(stream);
        }
    });
    let wake = move || {
        for listener in &own {
            let _already_down = shutdown(listener.as_raw_fd(), Shutdown::Both);
        }
    };
    Server::new(wake, thread)
}

/// A byte for a byte, and the end from this side, so that no port of the client's is kept waiting.
pub(super) fn answer(mut stream: TcpStream) {
    let mut byte = [0];
    if stream.read_exact(&mut byte).is_ok() {
        drop(stream.write_all(&byte));
    }
}

/// Every message back, until there are no more.
fn echo(mut stream: TcpStream) {
    let mut message = [0; MESSAGE];
    if stream.set_nodelay(true).is_ok() {
        while stream.read_exact(&mut message).is_ok() && stream.write_all(&message).is_ok() {}
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

/// Answers the last of every `window` datagrams with that datagram.
fn udp_server(netns: &Netns, window: u32) -> Server<'_> {
    let any = SocketAddr::from(([0, 0, 0, 0], TO_PORT));
    let socket = netns.enter(move || UdpSocket::bind(any).expect("the server's port"));
    let thread = netns.spawn(move || {
        pin(CPU);
        let mut buffer = [0; 64];
        let mut count = 0;
        // Woken, it receives a datagram of no bytes, which no client sends.
        while let Ok((length @ 1.., from)) = socket.recv_from(&mut buffer) {
            count += 1;
            if count == window {
                drop(socket.send_to(&buffer[..length], from));
                count = 0;
            }
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

/// New connections per second, to these places in turn.
pub(super) fn connections(netns: &Netns, to: Vec<SocketAddr>, time: Duration) -> f64 {
    netns.enter(move || {
        pin(CPU);
        let mut done = 0_u32;
        let start = Instant::now();
        for to in to.iter().cycle() {
            if start.elapsed() >= time {
                break;
            }
            let mut stream = TcpStream::connect_timeout(to, PATIENCE).expect("a connection");
            stream.write_all(&[7]).expect("a request");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("an answer");
            assert_eq!(all, [7]);
            done += 1;
        }
        f64::from(done) / start.elapsed().as_secs_f64()
    })
}

/// How long each of many requests took.
struct Took {
    each: Vec<Duration>,
    all: Duration,
}

impl Took {
    fn measure(time: Duration, mut ask: impl FnMut([u8; MESSAGE]) -> [u8; MESSAGE]) -> Self {
        let mut each = Vec::new();
        let start = Instant::now();
        let mut number = 0_u64;
        while start.elapsed() < time {
            let sent = Instant::now();
            number += 1;
            let answer = ask(number.to_ne_bytes());
            each.push(sent.elapsed());
            assert_eq!(u64::from_ne_bytes(answer), number);
        }
        let all = start.elapsed();
        each.sort_unstable();
        Self { each, all }
    }

    /// The rate, the median and the slowest hundredth's time.
    fn figures(&self, rate: Measure, [median, p99]: [Measure; 2]) -> [Figure; 3] {
        let microseconds = |part: usize| {
            let took: Duration = self.each[self.each.len() * part / 100];
            took.as_nanos() as f64 / 1000.0
        };
        [
            rate.figure(self.each.len() as f64 / self.all.as_secs_f64()),
            median.figure(microseconds(50)),
            p99.figure(microseconds(99)),
        ]
    }
}

fn tcp_requests(netns: &Netns, to: SocketAddr, time: Duration) -> Took {
    netns.enter(move || {
        pin(CPU);
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Took::measure(time, |mut message| {
            stream.write_all(&message).expect("a request");
            stream.read_exact(&mut message).expect("an answer");
            message
        })
    })
}

fn udp_client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect(to).expect("the server's address");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

fn udp_requests(netns: &Netns, to: SocketAddr, time: Duration) -> Took {
    netns.enter(move || {
        pin(CPU);
        let socket = udp_client(to);
        Took::measure(time, |mut message| {
            socket.send(&message).expect("a request");
            socket.recv(&mut message).expect("an answer");
            message
        })
    })
}

/// Datagrams per second, each of which arrived: the server counts them, and a lost one would end its counting.
fn datagrams(netns: &Netns, to: SocketAddr, time: Duration) -> f64 {
    netns.enter(move || {
        pin(CPU);
        let socket = udp_client(to);
        let mut windows = 0_u32;
        let start = Instant::now();
        while start.elapsed() < time {
            windows += 1;
            for _ in 0..WINDOW {
                socket.send(&windows.to_ne_bytes()).expect("a datagram");
            }
            let mut answer = [0; 4];
            socket.recv(&mut answer).expect("the server's count");
            assert_eq!(u32::from_ne_bytes(answer), windows);
        }
        f64::from(windows * WINDOW) / start.elapsed().as_secs_f64()
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
