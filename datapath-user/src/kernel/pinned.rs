//! Reading the pinned maps, with no daemon.

use std::{
    io,
    path::{Path, PathBuf},
};

use aya::maps::MapType;
use datapath_common::{
    binding::{BindingStats, Source},
    family::{V4, V6},
    names,
    reason::{Reason, ReasonCount},
    settings::Settings,
};

use super::{
    allow, attach, batch, cgroup,
    events::Events,
    flows::Flows,
    interface, netns, pins,
    tables::{Tabled, Tables},
    xdp,
};
use crate::{
    model::{Listen, Protocol, Publication},
    view::{Attachment, MapFill, PortView},
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
    /// It serves another network namespace than this.
    #[error(
        "pin_dir: {}: its datapath serves another network namespace than this; enter that one first \
         (`nsenter --net=/proc/PID/ns/net datapath {command} ...`, with the service's PID from `datapath status`)", .pin_dir.display()
    )]
    Elsewhere {
        /// Where it is pinned.
        pin_dir: PathBuf,
        /// What has to be done there.
        command: String,
    },
    /// A map could not be read.
    #[error("{0:#}")]
    Map(#[from] anyhow::Error),
}

/// An interface's name, or what stands in its place.
pub type Names = fn(u32) -> String;

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

    /// The flows, as of now.
    #[expect(clippy::missing_errors_doc, reason = "as `ports`")]
    pub fn flows(&self) -> Result<Flows<'_>, Error> {
        Ok(Flows::new(&self.tables)?)
    }

    /// Listens to dropped packets.
    #[expect(clippy::missing_errors_doc, reason = "as `ports`")]
    pub fn events(&self) -> Result<Events, Error> {
        Ok(Events::listen(&self.tables)?)
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
        for name in names::maps::ALL {
            let map = self.tables.data(name)?;
            let info = map.info().map_err(anyhow::Error::from)?;
            // The others have all their places from the start.
            let fills = [MapType::Hash, MapType::LruHash, MapType::LpmTrie];
            if info.map_type().is_ok_and(|kind| fills.contains(&kind)) {
                fill.push(MapFill {
                    name,
                    used: u32::try_from(batch::count(&map)?).unwrap_or(u32::MAX),
                    max: info.max_entries(),
                });
            }
        }
        Ok(fill)
    }

    /// How many drops a monitor was not told of.
    #[expect(clippy::missing_errors_doc, reason = "as `ports`")]
    pub fn suppressed(&self) -> Result<u64, Error> {
        let (_, _, written) = self.tables.events()?;
        let written = written.get(&0, 0).map_err(anyhow::Error::from)?;
        Ok(written.iter().map(|cpu| cpu.suppressed).sum())
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

    /// Whether it serves this network namespace. The interfaces of another one have other names here, or none.
    #[expect(clippy::missing_errors_doc, reason = "as `ports`")]
    pub fn is_here(&self) -> Result<bool, Error> {
        let served = self.settings()?.netns;
        Ok(served == 0 || netns::cookie().map_err(anyhow::Error::from)? == served)
    }

    /// Refuses where it serves another network namespace; `command` is what has to be done there.
    ///
    /// # Errors
    /// With the remedy.
    pub fn require_here(&self, command: &str) -> Result<(), Error> {
        if self.is_here()? {
            return Ok(());
        }
        Err(Error::Elsewhere {
            pin_dir: self.pin_dir.clone(),
            command: command.to_owned(),
        })
    }

    /// What its interfaces are called here: by their numbers where it serves another network namespace.
    #[expect(clippy::missing_errors_doc, reason = "as `ports`")]
    pub fn names(&self) -> Result<Names, Error> {
        Ok(if self.is_here()? {
            interface::name_or_number
        } else {
            |ifindex| ifindex.to_string()
        })
    }

    /// What is attached where.
    #[expect(clippy::missing_errors_doc, reason = "as `ports`")]
    pub fn attachments(&self) -> Result<Vec<Attachment>, Error> {
        let interface = self.names()?;
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
            if let Some((ifindex, mode)) = xdp::parse_pin(&name) {
                all.push(Attachment {
                    program: names::programs::UPLINK_XDP.to_owned(),
                    target: interface(ifindex),
                    hook: format!("xdp {mode}"),
                });
                continue;
            }
            let Some((program, ifindex)) = attach::parse_classifier(&name) else {
                continue;
            };
            let means = attach::Means::of(&entry.path()).map_or("unknown", attach::Means::word);
            let direction = if program == names::programs::UPLINK_EGRESS {
                "egress"
            } else {
                "ingress"
            };
            all.push(Attachment {
                program: program.to_owned(),
                target: interface(ifindex),
                hook: format!("{means} {direction}"),
            });
        }
        all.sort();
        Ok(all)
    }
}

fn ports_of<F: Tabled>(tables: &Tables) -> anyhow::Result<Vec<PortView>> {
    let lists = allow::read::<F>(&tables.allowed::<F>()?)?;
    let stats = tables.binding_stats()?;
    let mut ports = Vec::new();
    for (key, binding) in tables.bindings::<F>()?.0.entries()? {
        let Some(protocol) = Protocol::from_number(key.protocol) else {
            continue;
        };
        let mut sum = BindingStats::default();
        for stat in stats.get(&binding.slot, 0)?.iter() {
            sum.packets += stat.packets;
            sum.bytes += stat.bytes;
            sum.flows += stat.flows;
            sum.refused += stat.refused;
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
                allow: allow::named(&lists, binding.allow),
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
