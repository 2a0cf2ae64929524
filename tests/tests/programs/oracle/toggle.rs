//! Ports that are published and withdrawn in the middle of it, through the service.

use std::{
    fmt,
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use datapath_tests::lab::PATIENCE;

use super::model::{Model, Proto};
use crate::host::Host;

/// How long the programs take an entry for one that is being opened (`flow/open.rs`).
const OPENING: Duration = Duration::from_millis(10);

/// A port that may be published.
pub(super) struct Toggle {
    listen: SocketAddr,
    proto: Proto,
    to: SocketAddr,
}

impl fmt::Display for Toggle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "publish or withdraw {:?} {}", self.proto, self.listen)
    }
}

impl Toggle {
    pub(super) fn new(listen: SocketAddr, proto: Proto, to: SocketAddr) -> Self {
        Self { listen, proto, to }
    }

    fn key(&self) -> (SocketAddr, Proto) {
        (self.listen, self.proto)
    }

    /// Publishes it if it is not, withdraws it if it is.
    pub(super) fn turn(&self, host: &Host, model: &mut Model) -> Result<(), String> {
        if model.ports.contains_key(&self.key()) {
            return self.withdraw(host, model);
        }
        model.ports.insert(self.key(), self.to);
        self.ask(host, "POST", &format!(r#", "to": "{}""#, self.to))
    }

    /// Withdraws it if it is published.
    pub(super) fn withdraw(&self, host: &Host, model: &mut Model) -> Result<(), String> {
        if !model.ports.contains_key(&self.key()) {
            return Ok(());
        }
        model.withdraw(self.key());
        self.ask(host, "DELETE", "")?;
        thread::sleep(OPENING);
        Ok(())
    }

    fn ask(&self, host: &Host, method: &str, more: &str) -> Result<(), String> {
        let protocol = if self.proto == Proto::Tcp {
            "tcp"
        } else {
            "udp"
        };
        let body = format!(
            r#"[{{"listen": "{}", "protocol": "{protocol}"{more}}}]"#,
            self.listen
        );
        let request = format!(
            "{method} /v1/ports HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = String::new();
        let asked = UnixStream::connect(host.datapath.api_socket()).and_then(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut answer)
        });
        match asked {
            Ok(_) if answer.starts_with("HTTP/1.1 200") => Ok(()),
            other => Err(format!("{method} {body}: {other:?} {answer}")),
        }
    }
}
