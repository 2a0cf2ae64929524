//! `monitor`: dropped packets as they are dropped, with the reason.

use std::{fmt, io::Write as _, net::IpAddr, path::Path};

use anyhow::{Context as _, Result};
use clap::Args;
use datapath_common::{event::Event, reason::Reason};
use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use ipnet::IpNet;
use nix::net::if_::if_nametoindex;
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time,
};

use super::{flows::filter, output};
use crate::{
    kernel::{
        events::{ATTENTION, Events},
        pinned::{Names, Pinned},
    },
    lock::{self, Lock},
};

/// What `monitor` takes.
#[derive(Args, Debug)]
pub(super) struct Monitor {
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
    /// Only drops for this reason, such as no-flow; may be given more than once.
    #[arg(long, value_name = "REASON", value_parser = reason)]
    reason: Vec<Reason>,
    /// Only packets at this interface.
    #[arg(short, long, value_name = "NAME")]
    interface: Option<String>,
    /// Only from this address or network.
    #[arg(short, long, value_name = "NET", value_parser = filter::net)]
    src: Option<IpNet>,
    /// Only to this address or network.
    #[arg(short, long, value_name = "NET", value_parser = filter::net)]
    dst: Option<IpNet>,
    /// Only with this source or destination port.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// End after this many.
    #[arg(short = 'n', long, value_name = "NUMBER")]
    count: Option<u64>,
}

/// A drop as it is shown; docs/cli-json.md says what the fields mean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Drop {
    time: u64,
    reason: String,
    interface: String,
    length: u32,
    protocol: Option<String>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    sport: Option<u16>,
    dport: Option<u16>,
}

impl Monitor {
    /// Prints until it is interrupted, or the reader leaves.
    pub(super) async fn exec(self, pin_dir: &Path) -> Result<()> {
        let pinned = Pinned::open(pin_dir)?;
        let name = pinned.names()?;
        if let Some(name) = &self.interface {
            pinned.require_here("monitor")?;
            if_nametoindex(name.as_str())
                .ok()
                .with_context(|| format!("--interface: {name}: there is no such interface here"))?;
        }
        let lock = Lock::take(pin_dir, lock::MONITOR)?;
        let mut events = pinned.events()?;
        // Before the first event: one that comes while it is printed is not lost.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut attention = time::interval(ATTENTION / 3);
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = attention.tick() => events.go_on()?,
                ready = events.ready() => {
                    ready?;
                    self.print(&mut events, name, &mut left)?;
                }
            }
        }
        // What was told before the end is shown still: each drop is among those that are shown or those that are not.
        self.print(&mut events, name, &mut left)?;
        match events.suppressed()? {
            0 => {}
            more => anstream::eprintln!(
                "{more} drops more were counted, but not shown: too many at once"
            ),
        }
        drop(events);
        drop(lock);
        Ok(())
    }

    fn print(&self, events: &mut Events, name: Names, left: &mut u64) -> Result<()> {
        let mut out = output::stdout();
        while *left > 0
            && let Some(event) = events.take()
        {
            let drop = Drop::new(&event, name);
            if !self.holds(&drop) {
                continue;
            }
            if self.json {
                serde_json::to_writer(&mut out, &drop)?;
                writeln!(out)?;
            } else {
                writeln!(out, "{drop}")?;
            }
            *left -= 1;
        }
        Ok(out.flush()?)
    }

    fn holds(&self, drop: &Drop) -> bool {
        let within = |net: &Option<IpNet>, addr: Option<IpAddr>| {
            net.is_none_or(|net| addr.is_some_and(|addr| net.contains(&addr)))
        };
        (self.reason.is_empty()
            || self
                .reason
                .iter()
                .any(|reason| reason.name() == drop.reason))
            && self
                .interface
                .as_ref()
                .is_none_or(|name| *name == drop.interface)
            && within(&self.src, drop.src)
            && within(&self.dst, drop.dst)
            && self
                .port
                .is_none_or(|port| [drop.sport, drop.dport].contains(&Some(port)))
    }
}

impl Drop {
    fn new(event: &Event, name: Names) -> Self {
        let mut drop = Self {
            time: event.time,
            reason: Reason::from_raw(event.reason).map_or_else(
                || event.reason.to_string(),
                |reason| reason.name().to_owned(),
            ),
            interface: name(event.ifindex),
            length: event.length,
            ..Self::default()
        };
        let head = event
            .head
            .get(..event.captured as usize)
            .unwrap_or(&event.head);
        if let Ok(packet) = LaxSlicedPacket::from_ethernet(head) {
            drop.read(&packet);
        }
        drop
    }

    /// What the packet's beginning says, as far as it goes.
    fn read(&mut self, packet: &LaxSlicedPacket<'_>) {
        let addresses: Option<(IpAddr, IpAddr)> = match &packet.net {
            Some(LaxNetSlice::Ipv4(ip)) => Some((
                ip.header().source_addr().into(),
                ip.header().destination_addr().into(),
            )),
            Some(LaxNetSlice::Ipv6(ip)) => Some((
                ip.header().source_addr().into(),
                ip.header().destination_addr().into(),
            )),
            Some(LaxNetSlice::Arp(_)) | None => None,
        };
        (self.src, self.dst) = addresses.unzip();
        let (protocol, ports) = match &packet.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                ("tcp", Some((tcp.source_port(), tcp.destination_port())))
            }
            Some(TransportSlice::Udp(udp)) => {
                ("udp", Some((udp.source_port(), udp.destination_port())))
            }
            Some(TransportSlice::Icmpv4(_)) => ("icmp", None),
            Some(TransportSlice::Icmpv6(_)) => ("icmpv6", None),
            Some(TransportSlice::Igmp(_)) | None => return,
        };
        self.protocol = Some(protocol.to_owned());
        (self.sport, self.dport) = ports.unzip();
    }
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.time / 1_000_000_000, self.time / 1_000 % 1_000_000);
        write!(
            f,
            "[{seconds:5}.{micros:06}] {} {}",
            self.reason, self.interface
        )?;
        let place = |addr: IpAddr, port: Option<u16>| match port {
            Some(port) => std::net::SocketAddr::new(addr, port).to_string(),
            None => addr.to_string(),
        };
        if let (Some(src), Some(dst)) = (self.src, self.dst) {
            write!(
                f,
                " {} > {}",
                place(src, self.sport),
                place(dst, self.dport)
            )?;
        }
        if let Some(protocol) = &self.protocol {
            write!(f, " {protocol}")?;
        }
        write!(f, " length {}", self.length)
    }
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::ALL
        .iter()
        .copied()
        .find(|reason| reason.name() == text)
        .ok_or_else(|| "no such reason; `datapath stats --json` lists them".to_owned())
}

#[cfg(test)]
mod tests {
    use datapath_common::event::HEAD;
    use etherparse::PacketBuilder;

    use super::*;
    use crate::kernel::interface;

    fn event(bytes: &[u8]) -> Event {
        let mut head = [0xee; HEAD];
        let captured = bytes.len().min(HEAD);
        head[..captured].copy_from_slice(&bytes[..captured]);
        Event {
            time: 12_345_678_901_000,
            reason: Reason::NoFlow as u32,
            ifindex: 1,
            length: u32::try_from(bytes.len()).unwrap(),
            captured: u32::try_from(captured).unwrap(),
            head,
        }
    }

    fn packet() -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([203, 0, 113, 9], [203, 0, 113, 2], 64)
            .tcp(4711, 22, 1, 100)
            .write(&mut bytes, &[7; 200])
            .unwrap();
        bytes
    }

    #[test]
    fn what_the_head_says_is_shown() {
        let drop = Drop::new(&event(&packet()), interface::name_or_number);
        assert_eq!(
            drop.to_string(),
            "[12345.678901] no-flow lo 203.0.113.9:4711 > 203.0.113.2:22 tcp length 254"
        );
    }

    #[test]
    fn however_little_there_is() {
        let packet = packet();
        for length in 0..packet.len() {
            let drop = Drop::new(&event(&packet[..length]), interface::name_or_number);
            assert_eq!(drop.length as usize, length);
            assert!(drop.src.is_none() || length >= 34, "{length}: {drop:?}");
        }
    }
}
