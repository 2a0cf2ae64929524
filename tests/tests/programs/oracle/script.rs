//! The play: packets put to the model and to the programs, one after the other.

mod errors;

use std::{collections::BTreeMap, fmt::Write as _};

use datapath_common::reason::{Outcome, Reason};

use super::{
    cast::{Dice, Packet, Stage},
    compare::{same, shown},
    model::{Fate, Model, Pair},
    state,
};
use crate::{
    case::{DROP, GO_ON, REDIRECT, explain},
    host::{Hook, Host, nets},
};

/// What fragments of a datagram carry.
const PIECE: usize = 24;
/// More fragments than this are not remembered.
const DATAGRAMS: usize = 32;

/// The play.
pub(super) struct Play<'a> {
    host: &'a Host,
    stages: Vec<Stage>,
    next_id: u16,
    /// What the model expects to be counted.
    expected: BTreeMap<Reason, u64>,
    seen: BTreeMap<Reason, u64>,
    choices: u64,
    /// This run's packets, for whoever has to find out.
    log: Vec<String>,
}

impl<'a> Play<'a> {
    pub(super) fn new(host: &'a Host) -> Self {
        // Where masquerade looks last: not the address that new flows show.
        host.lab.add_addresses("eth0", &["203.0.113.3/24"]);
        host.lab
            .host
            .ip("addr add 2001:db8::3/64 dev eth0 nodad preferred_lft 0");
        state::wait_for_addresses(host, 6);
        Self {
            host,
            stages: nets().map(Stage::new).into(),
            next_id: 0,
            expected: BTreeMap::new(),
            seen: BTreeMap::new(),
            choices: 0,
            log: Vec::new(),
        }
    }

    /// How many packets there were.
    pub(super) fn packets(&self) -> usize {
        self.seen.values().sum::<u64>() as usize
    }

    /// What came by, in words.
    pub(super) fn told(&self) -> String {
        let mut text = format!("{} packets, {} ports chosen:", self.packets(), self.choices);
        for (reason, count) in &self.seen {
            let _ = write!(text, " {} {count}", reason.name());
        }
        text
    }

    /// That a play in which little happens proves nothing.
    pub(super) fn assert_everything_came_by(&self) {
        for reason in [
            Reason::NotOurs,
            Reason::ToHost,
            Reason::Masquerade,
            Reason::Publish,
            Reason::Flow,
            Reason::IcmpError,
            Reason::Fragment,
            Reason::FragmentWaits,
            Reason::Land,
            Reason::Martian,
            Reason::ForgedSource,
            Reason::NoFlow,
            Reason::PortsExhausted,
            Reason::Unpublished,
            Reason::FragmentWithoutFirst,
            Reason::IcmpErrorWithoutFlow,
            Reason::BadChecksum,
        ] {
            let seen = self.seen.get(&reason).copied().unwrap_or_default();
            assert!(seen >= 100, "{}: {seen}", reason.name());
        }
        assert!(self.choices >= 1_000, "{} ports chosen", self.choices);
    }

    /// One run from clean tables.
    pub(super) fn run(&mut self, acts: &[u64], audited: bool) -> Result<(), String> {
        state::clear(self.host);
        for Stage {
            model,
            toggles,
            datagrams,
            ..
        } in &mut self.stages
        {
            datagrams.clear();
            for toggle in toggles {
                toggle.withdraw(self.host, model)?;
            }
            model.forget();
        }
        self.expected.clear();
        self.log.clear();
        let before = self.host.reasons();
        let played = acts
            .iter()
            .try_for_each(|act| self.act(Dice(*act)))
            .and_then(|()| self.compare_counts(&before))
            .and_then(|()| {
                if audited {
                    let models: Vec<_> = self.stages.iter().map(|stage| &stage.model).collect();
                    state::compare(self.host, &models)
                } else {
                    Ok(())
                }
            });
        played.map_err(|error| {
            let models: Vec<_> = self.stages.iter().map(|stage| &stage.model).collect();
            let mut text = match state::compare(self.host, &models) {
                Ok(()) => error,
                Err(tables) => format!("{error}\n{tables}"),
            };
            for line in &self.log {
                let _ = write!(text, "\n  {line}");
            }
            text
        })
    }

    fn act(&mut self, mut dice: Dice) -> Result<(), String> {
        let family = dice.roll(2);
        match dice.roll(32) {
            0..=11 => {
                let packet = self.stages[family].fresh(&mut dice);
                self.whole(family, packet)
            }
            12..=21 => {
                let packet = self.stages[family].of_session(&mut dice);
                self.whole(family, packet)
            }
            22..=25 => self.error(family, &mut dice),
            26..=27 => self.datagram(family, &mut dice),
            28..=30 => self.piece_of(family, &mut dice),
            _ if dice.roll(32) == 0 => {
                let Stage { model, toggles, .. } = &mut self.stages[family];
                let toggle = &toggles[dice.roll(toggles.len())];
                self.log.push(toggle.to_string());
                toggle.turn(self.host, model)
            }
            _ => {
                let packet = self.stages[family].of_session(&mut dice);
                self.whole(family, packet)
            }
        }
    }

    /// A packet that is not in fragments.
    fn whole(&mut self, family: usize, packet: Packet) -> Result<(), String> {
        self.note("packet", &packet);
        let frame = packet.frame(packet.pair).bytes();
        if packet.hook == Hook::Port {
            // An accelerator only: with no way known it leaves all to the bridge, and counts nothing.
            return self.check(packet.hook, &frame, GO_ON, &frame);
        }
        let fate = self.fate(family, &packet);
        self.put(family, &packet, fate, &frame, |pair| {
            packet.onward(pair).bytes()
        })?;
        Ok(())
    }

    fn fate(&mut self, family: usize, packet: &Packet) -> Fate {
        let model = &mut self.stages[family].model;
        match packet.hook {
            Hook::Arrives | Hook::Driver | Hook::Stack => {
                model.arrives(packet.proto, packet.pair, packet.opens())
            }
            Hook::Leaves => model.leaves(packet.proto, packet.pair, packet.opens()),
            Hook::Bridge | Hook::Port => model.enters(packet.proto, packet.pair, packet.opens()),
        }
    }

    /// Puts a frame to its program, and compares. Returns what its addresses and ports became, if anything.
    fn put(
        &mut self,
        family: usize,
        packet: &Packet,
        fate: Fate,
        frame: &[u8],
        becomes: impl Fn(Pair) -> Vec<u8>,
    ) -> Result<Option<Pair>, String> {
        match fate {
            Fate::Left(reason) => {
                self.count(reason);
                let verdict = match reason.outcome() {
                    Outcome::Drop => DROP,
                    Outcome::Pass | Outcome::Translate => GO_ON,
                };
                self.check(packet.hook, frame, verdict, frame)
                    .map_err(|error| format!("{}: {error}", reason.name()))?;
                Ok(None)
            }
            Fate::Waits(otherwise) => {
                let ran = self.host.run_here(by_the_stack(packet.hook), frame);
                let reason = match ran.verdict {
                    REDIRECT => Reason::FragmentWaits,
                    GO_ON => otherwise,
                    action => return Err(format!("{:?}: action {action}", packet.hook)),
                };
                self.count(reason);
                same(packet.hook, frame, &ran.frame, frame)?;
                Ok(None)
            }
            Fate::Told(reason, pair) => {
                self.count(reason);
                self.check(packet.hook, frame, packet.translated(), &becomes(pair))?;
                Ok(Some(pair))
            }
            Fate::Any(reason, choice) => {
                self.count(reason);
                self.choices += 1;
                let ran = self.host.run_here(by_the_stack(packet.hook), frame);
                let port = shown(packet, frame, &ran.frame);
                if ran.verdict != packet.translated() || !choice.contains(&port) {
                    return Err(format!(
                        "{:?}: action {}, port {port} for one of {choice:?}\nin  {}\nout {}",
                        packet.hook,
                        ran.verdict,
                        explain(frame),
                        explain(&ran.frame)
                    ));
                }
                let pair = self.stages[family].model.adopt(port);
                same(packet.hook, frame, &ran.frame, &becomes(pair))?;
                Ok(Some(pair))
            }
        }
    }

    fn check(
        &mut self,
        hook: Hook,
        frame: &[u8],
        verdict: i32,
        expected: &[u8],
    ) -> Result<(), String> {
        let ran = self.host.run_here(by_the_stack(hook), frame);
        same(hook, frame, &ran.frame, expected)?;
        if ran.verdict != verdict {
            return Err(format!(
                "{hook:?}: action {} for {verdict}\nin  {}",
                ran.verdict,
                explain(frame)
            ));
        }
        Ok(())
    }

    fn note(&mut self, what: &str, packet: &Packet) {
        self.log.push(format!("{what} {packet:?}"));
    }

    fn count(&mut self, reason: Reason) {
        *self.expected.entry(reason).or_default() += 1;
        *self.seen.entry(reason).or_default() += 1;
    }

    /// A new datagram in fragments: its first comes first, mostly.
    fn datagram(&mut self, family: usize, dice: &mut Dice) -> Result<(), String> {
        self.next_id = self.next_id.wrapping_add(1);
        let stage = &mut self.stages[family];
        let mut packet = if dice.roll(2) == 0 {
            stage.fresh(dice)
        } else {
            stage.of_session(dice)
        };
        if packet.hook == Hook::Port {
            return Ok(());
        }
        (packet.payload, packet.id) = (48, self.next_id);
        if stage.datagrams.len() == DATAGRAMS {
            stage.datagrams.remove(0);
        }
        stage.datagrams.push(packet);
        let number = dice.of(&[0, 0, 0, 1, 2]);
        self.piece(family, packet, number)
    }

    /// A fragment of a datagram of which another was sent.
    fn piece_of(&mut self, family: usize, dice: &mut Dice) -> Result<(), String> {
        let datagrams = &self.stages[family].datagrams;
        if datagrams.is_empty() {
            return Ok(());
        }
        let packet = datagrams[dice.roll(datagrams.len())];
        self.piece(family, packet, dice.of(&[0, 1, 1, 1, 2, 2]))
    }

    fn piece(&mut self, family: usize, packet: Packet, number: usize) -> Result<(), String> {
        self.note(["first", "middle", "last"][number], &packet);
        let frame = packet.frame(packet.pair).fragments(PIECE)[number].clone();
        let becomes = |pair| packet.onward(pair).fragments(PIECE)[number].clone();
        let (side, pair) = (packet.side(), packet.pair);
        if number == 0 {
            let fate = self.fate(family, &packet);
            // The host's own: the others need not wait for it.
            let left_alone = match fate {
                Fate::Left(Reason::NotOurs) => packet.hook == Hook::Arrives,
                Fate::Left(reason) => reason == Reason::ToHost,
                Fate::Waits(_) | Fate::Told(..) | Fate::Any(..) => false,
            };
            if let Some(told) = self.put(family, &packet, fate, &frame, becomes)? {
                let model = &mut self.stages[family].model;
                model.note(side, packet.proto, packet.id, pair, told);
            } else if left_alone {
                let model = &mut self.stages[family].model;
                model.note(side, packet.proto, packet.id, pair, pair);
            }
            return Ok(());
        }
        let fate = self.later(family, &packet);
        self.put(family, &packet, fate, &frame, becomes)?;
        Ok(())
    }

    fn later(&self, family: usize, packet: &Packet) -> Fate {
        let model = &self.stages[family].model;
        let (side, pair) = (packet.side(), packet.pair);
        let (from, to) = (
            Model::is_inside(pair.src.ip()),
            Model::is_inside(pair.dst.ip()),
        );
        let guarded = match packet.hook {
            Hook::Leaves if !from => Some(Reason::NotOurs),
            Hook::Bridge if !from => Some(Reason::ForgedSource),
            Hook::Arrives
            | Hook::Driver
            | Hook::Stack
            | Hook::Leaves
            | Hook::Bridge
            | Hook::Port => None,
        };
        if let Some(reason) = guarded {
            return Fate::Left(reason);
        }
        let noted = model.noted(side, packet.proto, packet.id, pair);
        if packet.hook == Hook::Bridge && !model.is_host(pair.dst.ip()) {
            // It goes on through the stack; what it does here is to wait.
            return if to || noted.is_some() {
                Fate::Left(Reason::NotOurs)
            } else {
                Fate::Waits(Reason::NotOurs)
            };
        }
        match noted {
            Some((src, dst)) if (src, dst) == (pair.src.ip(), pair.dst.ip()) => {
                // The first was the host's own.
                Fate::Left(if packet.hook == Hook::Bridge {
                    Reason::ToHost
                } else {
                    Reason::NotOurs
                })
            }
            Some((src, dst)) => {
                let mut pair = pair;
                pair.src.set_ip(src);
                pair.dst.set_ip(dst);
                Fate::Told(Reason::Fragment, pair)
            }
            None => match packet.hook {
                Hook::Arrives if model.is_host(pair.dst.ip()) => Fate::Waits(Reason::FragmentAlone),
                Hook::Arrives if to => Fate::Left(Reason::Unpublished),
                Hook::Arrives | Hook::Driver | Hook::Stack if from => {
                    Fate::Left(Reason::ForgedSource)
                }
                Hook::Arrives | Hook::Driver | Hook::Stack => Fate::Left(Reason::NotOurs),
                Hook::Leaves => Fate::Left(Reason::FragmentWithoutFirst),
                Hook::Bridge | Hook::Port => Fate::Waits(Reason::ToHost),
            },
        }
    }

    /// Every reason was counted as often as the model says, and no other.
    fn compare_counts(&self, before: &BTreeMap<Reason, u64>) -> Result<(), String> {
        for (reason, after) in self.host.reasons() {
            let counted = after - before[&reason];
            let expected = self.expected.get(&reason).copied().unwrap_or_default();
            // The host's own chatter counts as these, too.
            let chatter = matches!(
                reason,
                Reason::NotIp | Reason::NotOurs | Reason::NotForHost | Reason::UntrackedProtocol
            );
            if counted < expected || (counted > expected && !chatter) {
                return Err(format!("{}: {counted} for {expected}", reason.name()));
            }
        }
        Ok(())
    }
}

/// The model is of the stack's programs: the one at the driver's level does nothing of its own.
fn by_the_stack(hook: Hook) -> Hook {
    if hook == Hook::Arrives {
        Hook::Stack
    } else {
        hook
    }
}
