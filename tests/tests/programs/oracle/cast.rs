//! Who may speak, and what: a family's part of the play, and random numbers made into packets.

use std::net::{IpAddr, SocketAddr};

use super::{
    model::{Model, Pair, Proto, Session, Side},
    toggle::Toggle,
};
use crate::{
    case::{GO_ON, REDIRECT},
    frame::{ACK, FIN, Frame, RST, SYN, ping, pong, tcp, udp},
    host::{Hook, Net},
};

/// The endpoints' and the outsiders' ports: few, so that they meet, and among them some that are published. Few of them
/// are privileged: those have a range of their own, which does not run out.
const INSIDE_PORTS: [u16; 8] = [53, 80, 5300, 6000, 6001, 8080, 9000, 9001];
const OUTSIDE_PORTS: [u16; 4] = [53, 443, 9000, 40000];
const ENDPOINTS: u16 = 6;

/// A packet at a hook.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) hook: Hook,
    pub(super) proto: Proto,
    pub(super) pair: Pair,
    pub(super) flags: u8,
    pub(super) payload: usize,
    pub(super) id: u16,
}

/// A random number, used up digit by digit.
pub(super) struct Dice(pub(super) u64);

/// One family's part.
pub(super) struct Stage {
    pub(super) net: Net,
    pub(super) model: Model,
    /// Ports that are published and withdrawn.
    pub(super) toggles: Vec<Toggle>,
    /// Datagrams in fragments of which one was sent.
    pub(super) datagrams: Vec<Packet>,
}

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        let sides = sides as u64;
        let rolled = self.0 % sides;
        self.0 /= sides;
        rolled as usize
    }

    pub(super) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())]
    }
}

impl Packet {
    pub(super) fn side(&self) -> Side {
        match self.hook {
            Hook::Arrives | Hook::Driver | Hook::Stack => Side::World,
            Hook::Leaves | Hook::Bridge | Hook::Port => Side::Inside,
        }
    }

    /// Whether it may be the first of a session.
    pub(super) fn opens(&self) -> bool {
        match self.proto {
            Proto::Tcp => self.flags == SYN,
            Proto::Udp => true,
            Proto::Echo => self.pair.dst.port() == 0,
        }
    }

    pub(super) fn frame(&self, pair: Pair) -> Frame {
        let (src, dst) = (pair.src, pair.dst);
        let payload: Vec<u8> = (0..self.payload).map(|byte| byte as u8).collect();
        let frame = match self.proto {
            Proto::Tcp => tcp(src, dst, self.flags),
            Proto::Udp => udp(src, dst),
            Proto::Echo if dst.port() == 0 => ping(src, dst),
            Proto::Echo => pong(src, dst),
        };
        frame.payload(&payload).id(self.id)
    }

    /// As it goes on from its hook: from the bridge, past the stack.
    pub(super) fn onward(&self, pair: Pair) -> Frame {
        self.frame(pair).hops(self.hops())
    }

    pub(super) fn hops(&self) -> u8 {
        if self.hook == Hook::Bridge { 63 } else { 64 }
    }

    pub(super) fn translated(&self) -> i32 {
        if self.hook == Hook::Bridge {
            REDIRECT
        } else {
            GO_ON
        }
    }
}

impl Stage {
    pub(super) fn new(net: Net) -> Self {
        let v4 = net.host.is_ipv4();
        let (second, bridge, any) = if v4 {
            ("203.0.113.3", "172.17.0.1", "0.0.0.0")
        } else {
            ("2001:db8::3", "fd00:17::1", "::")
        };
        let (second, bridge, any): (IpAddr, IpAddr, IpAddr) = (
            second.parse().unwrap(),
            bridge.parse().unwrap(),
            any.parse().unwrap(),
        );
        let mut model = Model::new(net.host, [second, bridge]);
        for (port, proto, to) in [(8080, Proto::Tcp, 80), (5300, Proto::Udp, 53)] {
            let listen = SocketAddr::new(any, port);
            model.ports.insert((listen, proto), net.endpoint(to));
        }
        let toggle = |addr: IpAddr, port, proto, number, to| {
            let (listen, to) = (
                SocketAddr::new(addr, port),
                SocketAddr::new(endpoint(&net, number), to),
            );
            Toggle::new(listen, proto, to)
        };
        let toggles = vec![
            toggle(any, 9000, Proto::Tcp, 1, 81),
            toggle(any, 9001, Proto::Udp, 2, 53),
            toggle(net.host, 8080, Proto::Tcp, 3, 80),
            toggle(second, 5300, Proto::Udp, 4, 5300),
        ];
        Self {
            net,
            model,
            toggles,
            datagrams: Vec::new(),
        }
    }

    fn inside(&self, dice: &mut Dice) -> SocketAddr {
        let number = dice.roll(ENDPOINTS.into()) as u16;
        SocketAddr::new(endpoint(&self.net, number), dice.of(&INSIDE_PORTS))
    }

    fn outside(&self, dice: &mut Dice) -> SocketAddr {
        let addr = dice.of(&[self.net.world, self.net.other]);
        SocketAddr::new(addr, dice.of(&OUTSIDE_PORTS))
    }

    /// An address of the host, and a port that may be published there or shown by masquerade.
    fn own(&self, dice: &mut Dice) -> SocketAddr {
        let [second, bridge] = self.model.others;
        let addr = dice.of(&[self.net.host, self.net.host, self.net.host, second, bridge]);
        let shown = super::RANGE.start() + dice.roll(super::RANGE.count()) as u16;
        let port = dice.of(&[8080, 5300, 9000, 9001, 80, shown]);
        SocketAddr::new(addr, port)
    }

    /// Something that no session has to do with.
    pub(super) fn fresh(&self, dice: &mut Dice) -> Packet {
        let proto = dice.of(&[Proto::Tcp, Proto::Udp, Proto::Echo]);
        let flags = dice.of(&[SYN, SYN, SYN, SYN, SYN, ACK, SYN | ACK, RST]);
        let payload = dice.roll(40);
        let (hook, mut pair) = match dice.roll(20) {
            0..=8 => (
                Hook::Leaves,
                Pair::new(self.inside(dice), self.outside(dice)),
            ),
            9..=13 => (Hook::Arrives, Pair::new(self.outside(dice), self.own(dice))),
            14..=16 => (Hook::Bridge, Pair::new(self.inside(dice), self.own(dice))),
            17 => match dice.roll(5) {
                0 => (Hook::Arrives, Pair::new(self.inside(dice), self.own(dice))),
                1 => (
                    Hook::Arrives,
                    Pair::new(self.outside(dice), self.inside(dice)),
                ),
                2 => (Hook::Arrives, Pair::new(self.own(dice), self.own(dice))),
                3 => (
                    Hook::Arrives,
                    Pair::new(self.inside(dice), self.outside(dice)),
                ),
                _ => (Hook::Bridge, Pair::new(self.outside(dice), self.own(dice))),
            },
            18 => (
                Hook::Bridge,
                Pair::new(self.inside(dice), self.outside(dice)),
            ),
            _ => (Hook::Port, Pair::new(self.inside(dice), self.outside(dice))),
        };
        if proto == Proto::Echo {
            if dice.roll(8) == 0 {
                pair.src.set_port(0);
            } else {
                pair.dst.set_port(0);
            }
        }
        Packet {
            hook,
            proto,
            pair,
            flags,
            payload,
            id: 1,
        }
    }

    /// A packet of a session, from either side; where there is none, a fresh one.
    pub(super) fn of_session(&self, dice: &mut Dice) -> Packet {
        let Some((session, opener)) = self.session(dice) else {
            return self.fresh(dice);
        };
        let (side, pair) = if opener {
            (session.side, session.asked)
        } else {
            (session.answers_from(), session.told.answer())
        };
        let flags = dice.of(&[SYN, SYN | ACK, ACK, ACK, ACK, FIN | ACK, RST, RST | ACK]);
        Packet {
            hook: hook(side, session.turned),
            proto: session.proto,
            pair,
            flags,
            payload: dice.roll(40),
            id: 1,
        }
    }

    pub(super) fn session(&self, dice: &mut Dice) -> Option<(&Session, bool)> {
        let sessions = &self.model.sessions;
        if sessions.is_empty() {
            return None;
        }
        let session = &sessions[dice.roll(sessions.len())];
        Some((session, dice.roll(2) == 0))
    }
}

fn endpoint(net: &Net, number: u16) -> IpAddr {
    match net.endpoint {
        IpAddr::V4(_) => IpAddr::from([172, 17, 0, 2 + number as u8]),
        IpAddr::V6(_) => IpAddr::from([0xfd00, 0x17, 0, 0, 0, 0, 0, 2 + number]),
    }
}

pub(super) fn hook(side: Side, turned: bool) -> Hook {
    match (side, turned) {
        (Side::World, _) => Hook::Arrives,
        (Side::Inside, false) => Hook::Leaves,
        (Side::Inside, true) => Hook::Bridge,
    }
}
