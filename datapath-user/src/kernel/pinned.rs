//! Reading the pinned maps, with no daemon.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::Pod;
use datapath_common::{
    binding::{Binding, BindingKey, BindingStats, Source},
    conntrack::{Flow, tcp},
    family::{Family, V4, V6},
    names, proto,
    reason::{Reason, ReasonCount},
    settings::{Settings, slots},
    tuple::{Direction, Endpoints, Tuple},
};

use super::{
    attach, cgroup, pins,
    tables::{Tabled, Tables},
};
use crate::{
    model::{Listen, Protocol, Publication},
    view::{Attachment, FlowView, Half, MapFill, PortView},
};

/// Why the pinned maps cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is pinned there.
    #[error("pin_dir: {}: no datapath is pinned here; start it with `datapath run`", .0.display())]
    Absent(PathBuf),
    /// The directory is not ours to read.
    #[error("pin_dir: {}: not readable; run as root", .0.display())]
    Permission(PathBuf),
    /// A map could not be read.
    #[error("{0:#}")]
    Map(#[from] anyhow::Error),
}

/// The pinned maps of one directory.
#[derive(Clone, Debug)]
pub struct Pinned {
    pin_dir: PathBuf,
    tables: Tables,
}

impl Pinned {
    /// Looks whether a datapath is pinned there.
    ///
    /// # Errors
    /// When there is none, or it is not readable.
    pub fn open(pin_dir: &Path) -> Result<Self, Error> {
        match std::fs::read_dir(pin_dir) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::Permission(pin_dir.to_owned()));
            }
            _ => {}
        }
        let tables = Tables::new(pin_dir);
        if !tables.exist() {
            return Err(Error::Absent(pin_dir.to_owned()));
        }
        Ok(Self {
            pin_dir: pin_dir.to_owned(),
            tables,
        })
    }

    /// The published ports, sorted.
    ///
    /// # Errors
    /// When a map cannot be read. So with the others below.
    pub fn ports(&self) -> Result<Vec<PortView>, Error> {
        let mut ports = ports_of::<V4>(&self.tables)?;
        ports.extend(ports_of::<V6>(&self.tables)?);
        ports.sort_by_key(|port| port.publication.listen);
        Ok(ports)
    }

    /// The flows that live, each once.
    #[expect(clippy::missing_errors_doc, reason = "as `ports`")]
    pub fn flows(&self) -> Result<Vec<FlowView>, Error> {
        let mut flows = Reader::new(&self.tables)?.flows::<V4>()?;
        flows.extend(Reader::new(&self.tables)?.flows::<V6>()?);
        Ok(flows)
    }

    /// The counters by reason, every reason, all CPUs together.
    #[expect(clippy::missing_errors_doc, reason = "as `ports`")]
    pub fn reasons(&self) -> Result<Vec<(Reason, ReasonCount)>, Error> {
        let map = self.tables.reasons()?;
        let mut all = Vec::new();
        for reason in Reason::ALL {
            let counts = map.get(&(*reason as u32), 0).map_err(anyhow::Error::from)?;
            let mut sum = ReasonCount::default();
            for count in counts.iter() {
                sum.packets += count.packets;
                sum.bytes += count.bytes;
            }
            all.push((*reason, sum));
        }
        Ok(all)
    }

    /// How full the maps are.
    #[expect(clippy::missing_errors_doc, reason = "as `ports`")]
    pub fn fill(&self) -> Result<Vec<MapFill>, Error> {
        let mut fill = Vec::new();
        fill_of::<V4>(&self.tables, &mut fill)?;
        fill_of::<V6>(&self.tables, &mut fill)?;
        Ok(fill)
    }

    /// The settings in force.
    #[expect(clippy::missing_errors_doc, reason = "as `ports`")]
    pub fn settings(&self) -> Result<Settings, Error> {
        Ok(self
            .tables
            .settings()?
            .get(&0, 0)
            .map_err(anyhow::Error::from)?)
    }

    /// What is attached where.
    #[expect(clippy::missing_errors_doc, reason = "as `ports`")]
    pub fn attachments(&self) -> Result<Vec<Attachment>, Error> {
        let dir = pins::links(&self.pin_dir);
        let mut all = Vec::new();
        for entry in std::fs::read_dir(dir)
            .map_err(anyhow::Error::from)?
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(program) = cgroup::parse_pin(&name) {
                all.push(Attachment {
                    program: program.to_owned(),
                    target: "root cgroup".to_owned(),
                    hook: format!("cgroup {}", program.trim_start_matches("host_")),
                });
                continue;
            }
            let Some((program, ifindex)) = attach::parse_pin(&name) else {
                continue;
            };
            let hook = if program == names::programs::UPLINK_EGRESS {
                "tcx egress"
            } else {
                "tcx ingress"
            };
            all.push(Attachment {
                program: program.to_owned(),
                target: interface_name(ifindex),
                hook: hook.to_owned(),
            });
        }
        all.sort();
        Ok(all)
    }

    /// Takes flows out, both entries of each; returns how many were there.
    #[expect(clippy::missing_errors_doc, reason = "as `ports`")]
    pub fn remove_flows(&self, flows: &[FlowView]) -> Result<usize, Error> {
        let mut removed = 0;
        removed += remove_of::<V4>(&self.tables, flows)?;
        removed += remove_of::<V6>(&self.tables, flows)?;
        Ok(removed)
    }
}

/// The name of an interface, or its index when it is gone.
fn interface_name(ifindex: u32) -> String {
    nix::net::if_::if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| ifindex.to_string())
}

fn ports_of<F: Tabled>(tables: &Tables) -> anyhow::Result<Vec<PortView>>
where
    BindingKey<F>: Pod,
    Binding<F>: Pod,
{
    let stats = tables.binding_stats()?;
    let mut ports = Vec::new();
    for entry in tables.bindings::<F>()?.iter() {
        let (key, binding) = entry?;
        let Some(protocol) = Protocol::from_number(key.protocol) else {
            continue;
        };
        let mut sum = BindingStats::default();
        for stat in stats.get(&binding.slot, 0)?.iter() {
            sum.packets += stat.packets;
            sum.bytes += stat.bytes;
            sum.flows += stat.flows;
        }
        ports.push(PortView {
            publication: Publication {
                listen: Listen {
                    addr: key.addr.into(),
                    port: key.port,
                    protocol,
                },
                to: std::net::IpAddr::to_canonical(&binding.to.into()),
                to_port: binding.port,
                source: Source::from_raw(binding.source).unwrap_or(Source::Api),
                owner: owner(&binding.owner),
            },
            stats: sum,
            slot: binding.slot,
        });
    }
    Ok(ports)
}

fn owner(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let text = bytes.get(..end).unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn fill_of<F: Tabled>(tables: &Tables, fill: &mut Vec<MapFill>) -> anyhow::Result<()>
where
    BindingKey<F>: Pod,
    Binding<F>: Pod,
    Tuple<F>: Pod,
    Flow<F>: Pod,
{
    for (name, used) in [
        (F::BINDINGS, tables.bindings::<F>()?.keys().count()),
        (F::FLOWS, tables.flows::<F>()?.keys().count()),
        (F::HALF, tables.half::<F>()?.keys().count()),
    ] {
        let used = u32::try_from(used).unwrap_or(u32::MAX);
        fill.push(MapFill {
            name,
            used,
            max: tables.max_entries(name)?,
        });
    }
    Ok(())
}

fn remove_of<F: Tabled>(tables: &Tables, flows: &[FlowView]) -> anyhow::Result<usize>
where
    Tuple<F>: Pod,
    Flow<F>: Pod,
{
    let mut maps = [tables.flows::<F>()?, tables.half::<F>()?];
    let mut removed = 0;
    for flow in flows {
        let opener = if flow.published {
            Direction::ToEndpoint
        } else {
            Direction::FromEndpoint
        };
        let keys = [
            key_of::<F>(&flow.original, flow.protocol, opener),
            key_of::<F>(&flow.reply, flow.protocol, opener.opposite()),
        ];
        let mut any = false;
        for key in keys.into_iter().flatten() {
            for map in &mut maps {
                any |= map.remove(&key).is_ok();
            }
        }
        removed += usize::from(any);
    }
    Ok(removed)
}

fn key_of<F: Family>(half: &Half, protocol: u8, direction: Direction) -> Option<Tuple<F>> {
    use datapath_common::family::Address as _;
    let endpoints = Endpoints {
        src: F::Addr::from_ip(half.src)?,
        dst: F::Addr::from_ip(half.dst)?,
        sport: half.sport,
        dport: half.dport,
    };
    Some(Tuple::new(&endpoints, protocol, direction))
}

/// What it takes to say whether a flow lives.
struct Reader<'a> {
    tables: &'a Tables,
    settings: Settings,
    generations: Vec<u32>,
    now: u64,
}

impl<'a> Reader<'a> {
    fn new(tables: &'a Tables) -> anyhow::Result<Self> {
        let map = tables.generations()?;
        let generations = map.iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            tables,
            settings: tables.settings()?.get(&0, 0)?,
            generations,
            now: now()?,
        })
    }

    fn flows<F: Tabled>(&self) -> anyhow::Result<Vec<FlowView>>
    where
        Tuple<F>: Pod,
        Flow<F>: Pod,
    {
        let mut views = Vec::new();
        for (map, assured) in [
            (self.tables.flows::<F>()?, true),
            (self.tables.half::<F>()?, false),
        ] {
            for entry in map.iter() {
                // An entry may go while the map is walked.
                let Ok((key, flow)) = entry else { continue };
                if !flow.has(Flow::<F>::ORIGINAL) || !self.is_current(&flow) {
                    continue;
                }
                let Some(direction) = Direction::from_raw(key.direction) else {
                    continue;
                };
                let partner = flow.partner(direction);
                let Ok(reply) = map.get(&partner, 0) else {
                    continue;
                };
                if let Some(view) = self.view(&key, &flow, &partner, &reply, assured) {
                    views.push(view);
                }
            }
        }
        Ok(views)
    }

    fn is_current<F: Family>(&self, flow: &Flow<F>) -> bool {
        let current = |slot: u32, generation: u32| {
            slot == slots::NOBODY || self.generations.get(slot as usize) == Some(&generation)
        };
        current(flow.binding, flow.binding_generation)
            && current(flow.address, flow.address_generation)
    }

    fn view<F: Family>(
        &self,
        key: &Tuple<F>,
        flow: &Flow<F>,
        partner: &Tuple<F>,
        reply: &Flow<F>,
        assured: bool,
    ) -> Option<FlowView> {
        let idle = self.now.saturating_sub(flow.last_seen.max(reply.last_seen));
        let remaining = flow.timeout(&self.settings.timeouts).checked_sub(idle)?;
        Some(FlowView {
            protocol: key.protocol,
            state: (key.protocol == proto::TCP)
                .then(|| tcp::State::from_raw(flow.state))
                .flatten(),
            original: half(key, flow),
            reply: half(partner, reply),
            answered: flow.has(Flow::<F>::ANSWERED),
            assured,
            published: flow.has(Flow::<F>::PUBLISHED),
            binding: flow.binding,
            remaining: Duration::from_nanos(remaining),
            age: Duration::from_nanos(self.now.saturating_sub(flow.created)),
        })
    }
}

fn half<F: Family>(key: &Tuple<F>, flow: &Flow<F>) -> Half {
    Half {
        src: key.src.into(),
        dst: key.dst.into(),
        sport: key.sport,
        dport: key.dport,
        packets: flow.packets,
        bytes: flow.bytes,
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of the maps.
fn now() -> anyhow::Result<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
    Ok(u64::try_from(now.tv_sec())? * 1_000_000_000 + u64::try_from(now.tv_nsec())?)
}
