//! The flows of the pinned maps: read and taken out, a batch at a time.

use std::{net::IpAddr, time::Duration};

use anyhow::Result;
use datapath_common::{
    conntrack::{Flow, tcp},
    family::{Family, V4, V6},
    proto,
    tuple::{Direction, Tuple},
};

use super::{
    clock, grace,
    life::{Judge, Tier},
    tables::{Tabled, Tables},
};
use crate::view::{FlowView, Half, Nat};

/// The flows, as of the moment that this was made.
#[derive(Debug)]
pub struct Flows<'a> {
    tables: &'a Tables,
    judge: Judge,
}

impl<'a> Flows<'a> {
    /// Those of these maps.
    ///
    /// # Errors
    /// When a map cannot be read. So with the others below.
    pub fn new(tables: &'a Tables) -> Result<Self> {
        Ok(Self {
            tables,
            judge: judge(tables)?,
        })
    }

    /// Shows the flows that live and that are `wanted`, each once. `wanted` is asked before the counters of the
    /// replies are looked up, which is what costs time.
    #[expect(clippy::missing_errors_doc, reason = "as `new`")]
    pub fn each(
        &self,
        wanted: impl Fn(&FlowView) -> bool,
        mut show: impl FnMut(FlowView) -> Result<()>,
    ) -> Result<()> {
        self.each_of::<V4>(&wanted, &mut show)?;
        self.each_of::<V6>(&wanted, &mut show)
    }

    /// Ends the flows that are `wanted`: takes both entries out. Returns how many flows it were.
    #[expect(clippy::missing_errors_doc, reason = "as `new`")]
    pub fn flush(&self, wanted: impl Fn(&FlowView) -> bool) -> Result<u64> {
        Ok(self.flush_of::<V4>(&wanted)? + self.flush_of::<V6>(&wanted)?)
    }

    fn each_of<F: Tabled>(
        &self,
        wanted: &impl Fn(&FlowView) -> bool,
        show: &mut impl FnMut(FlowView) -> Result<()>,
    ) -> Result<()> {
        for tier in [Tier::Established, Tier::Half] {
            let partners = self.tables.tier::<F>(tier)?;
            self.walk::<F>(tier, |key, flow, direction| {
                let mut view = self.view(key, flow, tier, direction);
                if !wanted(&view) {
                    return Ok(());
                }
                let Ok(reply) = partners.get(&flow.partner(direction), 0) else {
                    return Ok(());
                };
                if !self.judge.lives(flow, tier, || Some(reply)) {
                    return Ok(());
                }
                view.reply.packets = reply.packets;
                view.reply.bytes = reply.bytes;
                view.remaining = Duration::from_nanos(self.judge.remaining(flow, &reply));
                show(view)
            })?;
        }
        Ok(())
    }

    fn flush_of<F: Tabled>(&self, wanted: &impl Fn(&FlowView) -> bool) -> Result<u64> {
        let (mut original, mut replies) = (Vec::new(), Vec::new());
        // A flow may be promoted at this moment, which puts it into the one before it is out of the other: so that none
        // is missed they are looked through in this order,
        for tier in [Tier::Half, Tier::Established] {
            let partners = self.tables.tier::<F>(tier)?;
            self.walk::<F>(tier, |key, flow, direction| {
                let partner = flow.partner(direction);
                if wanted(&self.view(key, flow, tier, direction))
                    && self
                        .judge
                        .lives(flow, tier, || partners.get(&partner, 0).ok())
                {
                    original.push(*key);
                    replies.push(partner);
                }
                Ok(())
            })?;
        }
        if original.is_empty() {
            return Ok(0);
        }
        let remove = |tier| -> Result<u64> {
            let map = self.tables.batched::<F>(tier)?;
            let flows = map.remove(&original)? as u64;
            map.remove(&replies)?;
            Ok(flows)
        };
        // and so that none comes back, emptied in the same, with whoever was about to promote one done in between.
        let half = remove(Tier::Half)?;
        grace::wait();
        Ok(half + remove(Tier::Established)?)
    }

    /// Shows the entries that opened a flow and depend on nothing that is over.
    fn walk<F: Tabled>(
        &self,
        tier: Tier,
        mut visit: impl FnMut(&Tuple<F>, &Flow<F>, Direction) -> Result<()>,
    ) -> Result<()> {
        self.tables.batched::<F>(tier)?.scan(|keys, flows| {
            for (key, flow) in keys.iter().zip(flows) {
                if !flow.has(Flow::<F>::ORIGINAL) || !self.judge.is_current(flow) {
                    continue;
                }
                if let Some(direction) = Direction::from_raw(key.direction) {
                    visit(key, flow, direction)?;
                }
            }
            Ok(())
        })
    }

    /// What the opening direction's entry says; the other one's counters are not in it.
    fn view<F: Family>(
        &self,
        key: &Tuple<F>,
        flow: &Flow<F>,
        tier: Tier,
        direction: Direction,
    ) -> FlowView {
        FlowView {
            protocol: key.protocol,
            state: (key.protocol == proto::TCP)
                .then(|| tcp::State::from_raw(flow.state))
                .flatten(),
            original: half(key, flow.packets, flow.bytes),
            reply: half(&flow.partner(direction), 0, 0),
            answered: flow.has(Flow::<F>::ANSWERED),
            assured: tier == Tier::Established,
            nat: nat(flow),
            binding: flow.binding,
            remaining: Duration::ZERO,
            age: Duration::from_nanos(self.judge.now.saturating_sub(flow.created)),
        }
    }
}

/// What is needed to judge flows now.
///
/// # Errors
/// When a map cannot be read.
pub fn judge(tables: &Tables) -> Result<Judge> {
    Ok(Judge {
        timeouts: tables.settings()?.get(&0, 0)?.timeouts,
        generations: tables.read_generations()?,
        now: clock::now()?,
    })
}

fn nat<F: Family>(flow: &Flow<F>) -> Nat {
    if flow.has(Flow::<F>::HAIRPIN) {
        Nat::Hairpin
    } else if flow.has(Flow::<F>::PUBLISHED) {
        Nat::Published
    } else if flow.has(Flow::<F>::ROUTED) {
        Nat::Routed
    } else {
        Nat::Masquerade
    }
}

/// An address as people know it: the mapped ones of a flow between the families are its endpoint's side.
fn shown(addr: impl Into<IpAddr>) -> IpAddr {
    addr.into().to_canonical()
}

fn half<F: Family>(key: &Tuple<F>, packets: u64, bytes: u64) -> Half {
    Half {
        src: shown(key.src),
        dst: shown(key.dst),
        sport: key.sport,
        dport: key.dport,
        packets,
        bytes,
    }
}
