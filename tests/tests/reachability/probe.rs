//! Real sockets: whoever answers says its name, so that nobody else's answer counts.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use datapath_tests::lab::Netns;

use super::{
    targets::Target,
    topology::{Source, Topology},
};

/// Who answered, if somebody did.
pub(crate) type Answer = Option<String>;

/// From one source to one target.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) source: Source,
    pub(crate) target: Target,
    pub(crate) tcp: Answer,
    pub(crate) udp: Answer,
}

impl Cell {
    pub(crate) fn new(source: Source, target: Target) -> Self {
        Self {
            source,
            target,
            tcp: None,
            udp: None,
        }
    }

    /// Both protocols were answered.
    pub(crate) fn is_whole(&self) -> bool {
        self.tcp.is_some() && self.udp.is_some()
    }
}

/// Fills in the answers that are missing, many at a time.
pub(crate) fn probe(
    topology: &Topology,
    cells: &mut [Cell],
    wanted: impl Fn(&Cell) -> bool,
    patience: Duration,
) {
    const AT_ONCE: usize = 64;
    let mut cells: Vec<_> = cells
        .iter_mut()
        .filter(|cell| wanted(cell) && !cell.is_whole())
        .collect();
    for cells in cells.chunks_mut(AT_ONCE) {
        let asked: Vec<_> = cells
            .iter()
            .map(|cell| {
                let (source, addr) = (topology.source(cell.source, &cell.target), cell.target.addr);
                let tcp = cell.tcp.is_none();
                let udp = cell.udp.is_none();
                (
                    tcp.then(|| source.spawn(move || ask_tcp(addr, patience))),
                    udp.then(|| source.spawn(move || ask_udp(addr, patience))),
                )
            })
            .collect();
        for (cell, (tcp, udp)) in cells.iter_mut().zip(asked) {
            if let Some(tcp) = tcp {
                cell.tcp = tcp.join().expect("the asker");
            }
            if let Some(udp) = udp {
                cell.udp = udp.join().expect("the asker");
            }
        }
    }
}

fn ask_tcp(addr: SocketAddr, patience: Duration) -> Answer {
    let mut stream = TcpStream::connect_timeout(&addr, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    let mut name = String::new();
    stream.read_to_string(&mut name).ok()?;
    (!name.is_empty()).then_some(name)
}

fn ask_udp(addr: SocketAddr, patience: Duration) -> Answer {
    let any: SocketAddr = match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(addr).ok()?;
    socket.set_read_timeout(Some(patience)).ok()?;
    socket.send(b"who are you?").ok()?;
    let mut name = [0; 64];
    let length = socket.recv(&mut name).ok()?;
    Some(String::from_utf8_lossy(name.get(..length)?).into_owned())
}

/// Servers in a container that say its name, on a port that is published and on one that is not.
pub(crate) fn serve(container: &Netns, name: &'static str) {
    for port in [80, 81] {
        let (listener, socket) = container.enter(move || {
            let addr: SocketAddr = (Ipv6Addr::UNSPECIFIED, port).into();
            let listener = TcpListener::bind(addr).expect("a server's port");
            (listener, UdpSocket::bind(addr).expect("a server's port"))
        });
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                drop(stream.write_all(name.as_bytes()));
            }
        });
        thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                drop(socket.send_to(name.as_bytes(), from));
            }
        });
    }
}
