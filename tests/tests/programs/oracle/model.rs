//! A NAT in plain Rust, as the RFCs and Docker's promises have it: who is translated to what, and nothing about
//! maps, tiers or packets. It shares no code with the programs; where they may choose, it says among what.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use datapath_common::reason::Reason;

/// The source ports that masquerade may take. Few, so that they run out.
pub(super) const RANGE: std::ops::RangeInclusive<u16> = 50_000..=50_011;

/// What has ports, or an identifier in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Proto {
    Tcp,
    Udp,
    Echo,
}

/// Where a packet comes from, as the host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    World,
    Inside,
}

/// Source and destination. The asker's port of an echo is its identifier, the answerer's is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
}

impl Pair {
    pub(super) fn new(src: SocketAddr, dst: SocketAddr) -> Self {
        Self { src, dst }
    }

    /// What an answer carries.
    pub(super) fn answer(self) -> Self {
        Self::new(self.dst, self.src)
    }
}

/// A conversation under way.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) proto: Proto,
    /// Where its first packet came from.
    pub(super) side: Side,
    /// That packet.
    pub(super) asked: Pair,
    /// What it became.
    pub(super) told: Pair,
    /// Both its ends are inside.
    pub(super) turned: bool,
    /// The published port that it came by.
    port: Option<(SocketAddr, Proto)>,
    /// Packets of the opener, and of the other.
    pub(super) packets: [u64; 2],
}

impl Session {
    /// Where the answers come from.
    pub(super) fn answers_from(&self) -> Side {
        match (self.side, self.turned) {
            (Side::World, _) | (Side::Inside, true) => Side::Inside,
            (Side::Inside, false) => Side::World,
        }
    }

    /// What the packet becomes if it is this session's, and whether the opener sent it.
    fn translate(&self, side: Side, proto: Proto, pair: Pair) -> Option<(Pair, bool)> {
        if self.proto != proto {
            None
        } else if self.side == side && self.asked == pair {
            Some((self.told, true))
        } else if self.answers_from() == side && self.told.answer() == pair {
            Some((self.asked.answer(), false))
        } else {
            None
        }
    }
}

/// What should become of a packet.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// Untouched: passed or dropped, as the reason says.
    Left(Reason),
    /// A fragment that came before its first: untouched, and to be seen again, unless too many are.
    Waits(Reason),
    /// Translated to this.
    Told(Reason, Pair),
    /// Translated as the session that waits says, but with one of these source ports.
    Any(Reason, Vec<u16>),
}

/// An ICMP error's outer addresses, and the packet that it quotes as its sender knew it.
pub(super) type Explained = (IpAddr, IpAddr, Pair);

/// What the fragments of a datagram have in common, its number among it.
type Datagram = (Side, IpAddr, IpAddr, u16, Proto);

/// The NAT of one address family.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// The address that masquerade shows.
    pub(super) host: IpAddr,
    /// The host's other addresses: another of the uplink's, and the bridge's.
    pub(super) others: [IpAddr; 2],
    pub(super) sessions: Vec<Session>,
    /// The published ports, and where they lead. They outlive the sessions.
    pub(super) ports: HashMap<(SocketAddr, Proto), SocketAddr>,
    /// Whose an outside port is.
    claims: HashMap<(Proto, SocketAddr), SocketAddr>,
    /// What an inside port showed last.
    shown: HashMap<(Proto, SocketAddr), SocketAddr>,
    /// What the first fragment of a datagram became.
    notes: HashMap<Datagram, (IpAddr, IpAddr)>,
    /// A session that waits for its port to be known.
    pending: Option<Session>,
}

impl std::hash::Hash for Side {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (*self as u8).hash(state);
    }
}

impl Model {
    pub(super) fn new(host: IpAddr, others: [IpAddr; 2]) -> Self {
        Self {
            host,
            others,
            sessions: Vec::new(),
            ports: HashMap::new(),
            claims: HashMap::new(),
            shown: HashMap::new(),
            notes: HashMap::new(),
            pending: None,
        }
    }

    /// Everything that packets left behind.
    pub(super) fn forget(&mut self) {
        let ports = std::mem::take(&mut self.ports);
        *self = Self {
            ports,
            ..Self::new(self.host, self.others)
        };
    }

    /// A published port is withdrawn: its sessions end at once.
    pub(super) fn withdraw(&mut self, port: (SocketAddr, Proto)) {
        self.ports.remove(&port);
        self.sessions.retain(|session| session.port != Some(port));
    }

    pub(super) fn is_host(&self, addr: IpAddr) -> bool {
        addr == self.host || self.others.contains(&addr)
    }

    /// Whether an address is of the managed network: `172.17.0.0/16`, or `fd00:17::/64`.
    pub(super) fn is_inside(addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => addr.octets().starts_with(&[172, 17]),
            IpAddr::V6(addr) => addr.segments().starts_with(&[0xfd00, 0x17, 0, 0]),
        }
    }

    fn any(&self) -> IpAddr {
        match self.host {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        }
    }

    /// The published port that a destination means: one on that address before one on every address.
    fn port(&self, to: SocketAddr, proto: Proto) -> Option<(SocketAddr, Proto)> {
        [to.ip(), self.any()]
            .map(|addr| (SocketAddr::new(addr, to.port()), proto))
            .into_iter()
            .find(|port| self.ports.contains_key(port))
    }

    /// What a packet of a session that exists becomes.
    pub(super) fn of_session(&self, side: Side, proto: Proto, pair: Pair) -> Option<Pair> {
        let mut all = self.sessions.iter();
        let found = all.find_map(|session| session.translate(side, proto, pair));
        found.map(|(pair, _)| pair)
    }

    fn follow(&mut self, side: Side, proto: Proto, pair: Pair) -> Option<Pair> {
        self.sessions.iter_mut().find_map(|session| {
            let (pair, opener) = session.translate(side, proto, pair)?;
            session.packets[usize::from(!opener)] += 1;
            Some(pair)
        })
    }

    /// A packet that arrives at the uplink. `opens` says whether it may be the first of a session.
    pub(super) fn arrives(&mut self, proto: Proto, pair: Pair, opens: bool) -> Fate {
        if let Some(told) = self.follow(Side::World, proto, pair) {
            return Fate::Told(Reason::Flow, told);
        }
        if !self.is_host(pair.dst.ip()) {
            return Fate::Left(if Self::is_inside(pair.dst.ip()) {
                Reason::Unpublished
            } else if Self::is_inside(pair.src.ip()) {
                Reason::ForgedSource
            } else {
                Reason::NotOurs
            });
        }
        if pair.src.ip() == pair.dst.ip() {
            return Fate::Left(Reason::Land);
        }
        if Self::is_inside(pair.src.ip()) {
            return Fate::Left(Reason::ForgedSource);
        }
        let Some(port) = self.port(pair.dst, proto) else {
            return Fate::Left(Reason::NotOurs);
        };
        if self.is_host(pair.src.ip()) {
            return Fate::Left(Reason::Martian);
        }
        if !opens {
            return Fate::Left(Reason::NoFlow);
        }
        let told = Pair::new(pair.src, self.ports[&port]);
        let session = Session {
            proto,
            side: Side::World,
            asked: pair,
            told,
            turned: false,
            port: Some(port),
            packets: [1, 0],
        };
        self.open(session, Reason::Publish, &|_| true)
    }

    /// A packet that is about to leave by the uplink.
    pub(super) fn leaves(&mut self, proto: Proto, pair: Pair, opens: bool) -> Fate {
        if !Self::is_inside(pair.src.ip()) {
            return Fate::Left(Reason::NotOurs);
        }
        if let Some(told) = self.follow(Side::Inside, proto, pair) {
            return Fate::Told(Reason::Flow, told);
        }
        if !opens {
            return Fate::Left(Reason::NoFlow);
        }
        let session = Session {
            proto,
            side: Side::Inside,
            asked: pair,
            told: Pair::new(SocketAddr::new(self.host, pair.src.port()), pair.dst),
            turned: false,
            port: None,
            packets: [1, 0],
        };
        self.masquerade(session, Reason::Masquerade, proto != Proto::Tcp)
    }

    /// A packet that an endpoint sent, at its bridge.
    pub(super) fn enters(&mut self, proto: Proto, pair: Pair, opens: bool) -> Fate {
        if !Self::is_inside(pair.src.ip()) {
            return Fate::Left(Reason::ForgedSource);
        }
        if !self.is_host(pair.dst.ip()) {
            return Fate::Left(Reason::NotOurs);
        }
        if let Some(told) = self.follow(Side::Inside, proto, pair) {
            return Fate::Told(Reason::Flow, told);
        }
        let Some(port) = self.port(pair.dst, proto) else {
            return Fate::Left(Reason::ToHost);
        };
        if !opens {
            return Fate::Left(Reason::NoFlow);
        }
        let source = SocketAddr::new(pair.dst.ip(), pair.src.port());
        let session = Session {
            proto,
            side: Side::Inside,
            asked: pair,
            told: Pair::new(source, self.ports[&port]),
            turned: true,
            port: Some(port),
            packets: [1, 0],
        };
        // The bridge's own address is nobody's outside.
        let outside = pair.dst.ip() != self.others[1];
        self.masquerade(session, Reason::Publish, proto == Proto::Udp && outside)
    }

    /// Opens a session that shows an address of the host: with a port that nobody needs, and if it is to be
    /// `independent` of the destination with the one that this inside port shows to everybody.
    fn masquerade(&mut self, mut session: Session, reason: Reason, independent: bool) -> Fate {
        let proto = session.proto;
        let (inside, addr) = (session.asked.src, session.told.src.ip());
        let needed = {
            let ports = self.ports.clone();
            let any = self.any();
            move |port: u16| {
                proto != Proto::Echo
                    && [addr, any]
                        .iter()
                        .any(|addr| ports.contains_key(&(SocketAddr::new(*addr, port), proto)))
            }
        };
        if !independent {
            return self.open(session, reason, &|port| !needed(port));
        }
        let last = self.shown.get(&(proto, inside)).copied();
        if let Some(last) = last.filter(|last| last.ip() == addr && !needed(last.port())) {
            session.told.src = last;
            return if self.is_free(&session, last.port()) {
                self.sessions.push(session.clone());
                Fate::Told(reason, session.told)
            } else {
                Fate::Left(Reason::PortsExhausted)
            };
        }
        if let Some(last) = last {
            session.told.src.set_port(last.port());
        }
        let claims = self.claims.clone();
        self.open(session, reason, &move |port| {
            let holder = claims.get(&(proto, SocketAddr::new(addr, port)));
            !needed(port) && holder.is_none_or(|holder| *holder == inside)
        })
    }

    /// Whether answers to the session would be nobody else's.
    fn is_free(&self, session: &Session, port: u16) -> bool {
        let mut told = session.told;
        told.src.set_port(port);
        self.of_session(session.answers_from(), session.proto, told.answer())
            .is_none()
    }

    /// Opens a session with its own source port where it can be had, else with any of the range.
    fn open(&mut self, session: Session, reason: Reason, usable: &dyn Fn(u16) -> bool) -> Fate {
        let own = session.told.src.port();
        let free = |port: u16| usable(port) && self.is_free(&session, port);
        if free(own) {
            self.settle(session.clone());
            return Fate::Told(reason, session.told);
        }
        // One below 1024 becomes another one there.
        let range = if own < 1024 && session.proto != Proto::Echo {
            512..=1023
        } else {
            RANGE
        };
        let choice: Vec<_> = range.filter(|port| free(*port)).collect();
        if choice.is_empty() {
            return Fate::Left(Reason::PortsExhausted);
        }
        self.pending = Some(session);
        Fate::Any(reason, choice)
    }

    /// The port that was chosen for the session that waits for it.
    pub(super) fn adopt(&mut self, port: u16) -> Pair {
        let mut session = self.pending.take().expect("a session that waits");
        session.told.src.set_port(port);
        let told = session.told;
        self.settle(session);
        told
    }

    fn settle(&mut self, session: Session) {
        let (proto, asked, told) = (session.proto, session.asked, session.told);
        let outside = told.src.ip() != self.others[1];
        let independent = proto == Proto::Echo || (proto == Proto::Udp && outside);
        if session.side == Side::Inside && independent {
            self.claims.insert((proto, told.src), asked.src);
            self.shown.insert((proto, asked.src), told.src);
        }
        self.sessions.push(session);
    }

    /// An ICMP error about a packet that went the other way, seen as `quoted`: who it comes from and goes to, and
    /// what its receiver had sent.
    pub(super) fn explain(
        &self,
        side: Side,
        (src, dst): (IpAddr, IpAddr),
        proto: Proto,
        quoted: Pair,
        at_bridge: bool,
    ) -> Result<Explained, Reason> {
        let about = self
            .sessions
            .iter()
            .filter(|session| !at_bridge || session.turned)
            .find_map(|session| session.translate(side, proto, quoted.answer()));
        let inside = Self::is_inside(src);
        if at_bridge && !self.is_host(dst) {
            return Err(Reason::NotOurs);
        }
        let Some((answer, _)) = about else {
            let ours = match side {
                Side::World => Self::is_inside(dst),
                Side::Inside => inside || Self::is_inside(quoted.dst.ip()),
            };
            return Err(match (at_bridge, ours) {
                (true, _) => Reason::ToHost,
                (false, true) => Reason::IcmpErrorWithoutFlow,
                (false, false) => Reason::NotOurs,
            });
        };
        if side == Side::World && inside {
            return Err(Reason::ForgedSource);
        }
        let from = match side {
            Side::Inside if inside => answer.src.ip(),
            // A router between, or the host itself.
            Side::Inside | Side::World => src,
        };
        Ok((from, answer.dst.ip(), answer.answer()))
    }

    /// A first fragment went on as `told`.
    pub(super) fn note(&mut self, side: Side, proto: Proto, id: u16, pair: Pair, told: Pair) {
        let key = (side, pair.src.ip(), pair.dst.ip(), id, proto);
        self.notes.insert(key, (told.src.ip(), told.dst.ip()));
    }

    /// What the addresses of a later fragment become.
    pub(super) fn noted(
        &self,
        side: Side,
        proto: Proto,
        id: u16,
        pair: Pair,
    ) -> Option<(IpAddr, IpAddr)> {
        let key = (side, pair.src.ip(), pair.dst.ip(), id, proto);
        self.notes.get(&key).copied()
    }
}
