//! ICMP errors about packets of sessions, and of strangers; some of them damaged on their way.

use std::net::{IpAddr, SocketAddr};

use datapath_common::reason::Reason;

use super::{
    super::{
        cast::{Dice, Packet, hook},
        model::{Fate, Pair},
    },
    Play,
};
use crate::{
    frame::{ETHERNET, error},
    host::Hook,
};

/// What happened to an error before it came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Damage {
    None,
    /// The header that it quotes was damaged before it was written.
    Quoted,
    /// This byte of it changed on the way.
    Message(usize),
}

impl Play<'_> {
    /// An ICMP error about a packet of a session as it went on, or about one that never was.
    pub(super) fn error(&mut self, family: usize, dice: &mut Dice) -> Result<(), String> {
        let stage = &self.stages[family];
        let quoted = stage.of_session(dice);
        let Some((session, opener)) = stage.session(dice) else {
            return Ok(());
        };
        let (side, mut pair) = if opener {
            (session.answers_from(), session.told)
        } else {
            (session.side, session.asked.answer())
        };
        if dice.roll(8) == 0 {
            let stranger = |port: u16| if port == 0 { 0 } else { port ^ 0x4000 };
            pair.src.set_port(stranger(pair.src.port()));
            pair.dst.set_port(stranger(pair.dst.port()));
        }
        let hook = hook(side, session.turned);
        let v4 = stage.net.host.is_ipv4();
        let source = match (hook, dice.roll(6)) {
            (Hook::Arrives, 0 | 1) => stage.net.other,
            (Hook::Arrives, 2) => stage.net.neighbour,
            (Hook::Leaves, 0 | 1) => stage.net.host,
            _ => pair.dst.ip(),
        };
        let kind = if v4 {
            dice.of(&[(3, 1), (3, 3), (3, 4), (11, 0), (12, 0)])
        } else {
            dice.of(&[(1, 4), (1, 1), (2, 0), (3, 0), (4, 0)])
        };
        let packet = Packet {
            hook,
            proto: session.proto,
            pair,
            ..quoted
        };
        self.log.push(format!("error about {packet:?}"));
        // Not in the middle of TCP's checksum, whose other half nobody knows.
        let body = dice.of(&[8, 9, 12, 16, 18, 19, 20, 24, 37]);
        let length = (if v4 { 20 } else { 40 }) + body;
        // One in eight was damaged: the quoted header (its hop limit), or any byte that does not say what it is about.
        let damage = match dice.roll(16) {
            0 if v4 => Damage::Quoted,
            0 | 1 => Damage::Message(dice.of(&[1, 2, 3, 4, 7])),
            _ => Damage::None,
        };
        let outer = |from: IpAddr, to: IpAddr, pair: Pair| {
            let mut quoted = packet.frame(pair).quote(length);
            if damage == Damage::Quoted {
                quoted[8] ^= 1;
            }
            error(
                SocketAddr::new(from, 0),
                SocketAddr::new(to, 0),
                kind,
                &quoted,
            )
        };
        let mut frame = outer(source, pair.src.ip(), pair).bytes();
        if let Damage::Message(place) = damage {
            frame[ETHERNET + (if v4 { 20 } else { 40 }) + place] ^= 1;
        }
        let explained = stage.model.explain(
            packet.side(),
            (source, pair.src.ip()),
            packet.proto,
            pair,
            hook == Hook::Bridge,
        );
        match explained {
            Ok(_) if damage != Damage::None => {
                let fate = Fate::Left(Reason::BadChecksum);
                self.put(family, &packet, fate, &frame, |_| Vec::new())?;
            }
            Err(reason) => {
                self.put(family, &packet, Fate::Left(reason), &frame, |_| Vec::new())?;
            }
            Ok((from, to, was)) => {
                let expected = outer(from, to, was).hops(packet.hops()).bytes();
                self.put(
                    family,
                    &packet,
                    Fate::Told(Reason::IcmpError, was),
                    &frame,
                    |_| expected.clone(),
                )?;
            }
        }
        Ok(())
    }
}
