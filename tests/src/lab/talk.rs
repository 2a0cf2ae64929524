//! Connections that are held open, and asked now and then whether they still live.

use std::{
    io::{BufRead as _, BufReader, Result, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::linux::net::TcpStreamExt as _,
    thread,
    time::Duration,
};

use super::Netns;

/// How long an answer may take on a connection that lives.
const SOON: Duration = Duration::from_secs(3);

/// A server that sends back every line.
pub fn serve(netns: &Netns, addr: &str) {
    let addr = addr.to_owned();
    let listener = netns.enter(move || TcpListener::bind(addr).expect("the server's port"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().expect("the stream"));
                let (mut stream, mut line) = (stream, String::new());
                while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
                    if stream.write_all(line.as_bytes()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
}

/// A connection to such a server.
pub struct Talk(BufReader<TcpStream>);

impl Talk {
    /// Opens one.
    pub fn open(netns: &Netns, to: &str) -> Result<Self> {
        let to = to.to_owned();
        netns.enter(move || Self::open_here(&to))
    }

    /// Opens one from the namespace that this thread is in.
    pub fn open_here(to: &str) -> Result<Self> {
        let to: SocketAddr = to.parse().expect("an address");
        let stream = TcpStream::connect_timeout(&to, SOON)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_nodelay(true)?;
        let mut talk = Self(BufReader::new(stream));
        talk.ask()?;
        Ok(talk)
    }

    /// Sends a line and waits for it to come back. Afterwards the connection is silent: an acknowledgement that the
    /// kernel put off, and sends while a test has the programs off, would find nobody and reset it.
    pub fn ask(&mut self) -> Result<()> {
        self.0.get_mut().write_all(b"are you there?\n")?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        self.0.get_ref().set_quickack(true)?;
        if line == "are you there?\n" {
            Ok(())
        } else {
            Err(std::io::Error::other(format!("answered {line:?}")))
        }
    }
}
