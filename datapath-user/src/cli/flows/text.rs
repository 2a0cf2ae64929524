//! A flow as a line of `conntrack -L`, and as JSON.

use std::{collections::HashMap, fmt, net::IpAddr};

use datapath_common::proto;
use serde::Serialize;

use crate::{
    model::Listen,
    view::{FlowView, Half},
};

/// A flow in conntrack's words.
pub(super) struct Line<'a>(pub(super) &'a FlowView);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flow = self.0;
        let name = proto::name(flow.protocol).unwrap_or("unknown");
        write!(
            f,
            "{name:<8} {} {}",
            flow.protocol,
            flow.remaining.as_secs()
        )?;
        if let Some(state) = flow.state {
            write!(f, " {}", state.name())?;
        }
        half(f, flow.protocol, &flow.original, true)?;
        if !flow.answered {
            f.write_str(" [UNREPLIED]")?;
        }
        half(f, flow.protocol, &flow.reply, false)?;
        if flow.assured {
            f.write_str(" [ASSURED]")?;
        }
        Ok(())
    }
}

fn half(f: &mut fmt::Formatter<'_>, protocol: u8, half: &Half, original: bool) -> fmt::Result {
    write!(f, " src={} dst={}", half.src, half.dst)?;
    let (request, reply) = match protocol {
        proto::ICMP => (8, 0),
        proto::ICMPV6 => (128, 129),
        _ => (0, 0),
    };
    if request == 0 {
        write!(f, " sport={} dport={}", half.sport, half.dport)?;
    } else if original {
        write!(f, " type={request} code=0 id={}", half.sport)?;
    } else {
        write!(f, " type={reply} code=0 id={}", half.dport)?;
    }
    write!(f, " packets={} bytes={}", half.packets, half.bytes)
}

/// A flow in JSON; docs/cli-json.md says what the fields mean.
#[derive(Serialize)]
pub(super) struct Object<'a> {
    protocol: &'static str,
    state: Option<&'static str>,
    original: Side,
    reply: Side,
    answered: bool,
    assured: bool,
    nat: &'static str,
    binding: Option<&'a str>,
    timeout: u64,
    age: u64,
}

#[derive(Serialize)]
struct Side {
    src: IpAddr,
    dst: IpAddr,
    sport: u16,
    dport: u16,
    packets: u64,
    bytes: u64,
}

/// The published ports in words, by slot.
pub(super) type Bindings = HashMap<u32, String>;

/// Finds words for the slots.
pub(super) fn bindings(ports: impl IntoIterator<Item = (u32, Listen)>) -> Bindings {
    ports
        .into_iter()
        .map(|(slot, listen)| (slot, listen.to_string()))
        .collect()
}

impl<'a> Object<'a> {
    pub(super) fn new(flow: &FlowView, bindings: &'a Bindings) -> Self {
        Self {
            protocol: proto::name(flow.protocol).unwrap_or("unknown"),
            state: flow.state.map(|state| state.name()),
            original: Side::new(&flow.original),
            reply: Side::new(&flow.reply),
            answered: flow.answered,
            assured: flow.assured,
            nat: flow.nat.name(),
            binding: bindings.get(&flow.binding).map(String::as_str),
            timeout: flow.remaining.as_secs(),
            age: flow.age.as_secs(),
        }
    }
}

impl Side {
    const fn new(half: &Half) -> Self {
        Self {
            src: half.src,
            dst: half.dst,
            sport: half.sport,
            dport: half.dport,
            packets: half.packets,
            bytes: half.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datapath_common::conntrack::tcp;

    use super::*;
    use crate::view::Nat;

    fn half(src: &str, dst: &str, sport: u16, dport: u16) -> Half {
        Half {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            sport,
            dport,
            packets: 1,
            bytes: 60,
        }
    }

    fn flow(protocol: u8, original: Half, reply: Half) -> FlowView {
        FlowView {
            protocol,
            state: None,
            original,
            reply,
            answered: false,
            assured: false,
            nat: Nat::Masquerade,
            binding: 0,
            remaining: Duration::from_millis(59_900),
            age: Duration::from_secs(1),
        }
    }

    #[test]
    fn lines_are_conntracks() {
        let ping = flow(
            proto::ICMP,
            half("172.17.0.2", "203.0.113.9", 7, 0),
            half("203.0.113.9", "203.0.113.2", 0, 9),
        );
        assert_eq!(
            Line(&ping).to_string(),
            "icmp     1 59 src=172.17.0.2 dst=203.0.113.9 type=8 code=0 id=7 packets=1 bytes=60 [UNREPLIED] \
             src=203.0.113.9 dst=203.0.113.2 type=0 code=0 id=9 packets=1 bytes=60"
        );
        let connection = FlowView {
            state: Some(tcp::State::Established),
            answered: true,
            assured: true,
            ..flow(
                proto::TCP,
                half("203.0.113.9", "203.0.113.2", 40000, 8080),
                half("172.17.0.2", "203.0.113.9", 80, 40000),
            )
        };
        assert_eq!(
            Line(&connection).to_string(),
            "tcp      6 59 ESTABLISHED src=203.0.113.9 dst=203.0.113.2 sport=40000 dport=8080 packets=1 \
             bytes=60 src=172.17.0.2 dst=203.0.113.9 sport=80 dport=40000 packets=1 bytes=60 [ASSURED]"
        );
    }

    #[test]
    fn json_names_the_published_port() {
        let bindings = Bindings::from([(3, "0.0.0.0:8080/tcp".to_owned())]);
        let mut view = flow(
            proto::UDP,
            half("::1", "::2", 1, 2),
            half("::2", "::3", 2, 1),
        );
        let json = |view: &FlowView| serde_json::to_value(Object::new(view, &bindings)).unwrap();
        assert_eq!(json(&view)["binding"], serde_json::Value::Null);
        view.binding = 3;
        assert_eq!(json(&view)["binding"], "0.0.0.0:8080/tcp");
        assert_eq!(json(&view)["reply"]["dst"], "::3");
        assert_eq!(json(&view)["nat"], "masquerade");
    }
}
