//! What would happen to a packet: the way that it would take, program by program, each asked by running it.

pub mod packet;
mod text;
mod walk;

use serde::Serialize;

use self::packet::Ends;
pub use self::{packet::Question, walk::explain};

/// What would happen to a packet; docs/cli-json.md says what the fields mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What was asked about, where its ends are of two families: `packet` is what that is on the wire.
    pub asked: Option<Ends>,
    /// The packet.
    pub packet: Packet,
    /// What becomes of it: `translated`, `passed` or `dropped`.
    pub verdict: &'static str,
    /// The same in words.
    pub because: String,
    /// The programs that it passes, in order.
    pub steps: Vec<Step>,
    /// The published port that it belongs to.
    pub binding: Option<Binding>,
    /// The flow that it belongs to, or would open.
    pub flow: Option<Flow>,
    /// Where it goes in the end, as far as this host knows.
    pub way: Option<String>,
    /// What to do about it if it is dropped.
    pub remedy: Option<&'static str>,
    /// The programs in force are those that were asked.
    pub exact: bool,
}

/// The packet that was asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Packet {
    /// `tcp`, `udp`, `icmp` or `icmpv6`.
    pub protocol: &'static str,
    /// Its ends.
    #[serde(flatten)]
    pub ends: Ends,
    /// The interface that it arrives at; `null` for one that this host sends.
    pub interface: Option<String>,
    /// It may open a flow; else it is one of a flow that exists.
    pub first: bool,
}

/// A program that sees the packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The program.
    pub program: &'static str,
    /// Where it is attached.
    pub interface: String,
    /// Why it did what it did; `null` where it leaves the packet to the next one.
    pub reason: Option<&'static str>,
    /// `translate`, `pass` or `drop`.
    pub outcome: &'static str,
    /// The reason in words.
    pub meaning: &'static str,
    /// The packet's ends afterwards, where they changed.
    pub becomes: Option<Ends>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// `ADDRESS:PORT/PROTOCOL`.
    pub listen: String,
    /// `ADDRESS:PORT`.
    pub to: String,
    /// Who wants it.
    pub owner: String,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// The packet would open it.
    pub new: bool,
    /// `masquerade`, `published`, `hairpin` or `routed`.
    pub nat: &'static str,
    /// TCP's state after the packet.
    pub state: Option<&'static str>,
    /// The direction that opens it, before it is translated.
    pub original: Ends,
    /// Its answers, before they are translated.
    pub reply: Ends,
}
