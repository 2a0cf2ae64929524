//! Pinned maps are adopted only if they are ours: of the name, type and sizes that the programs were built with.
//! A pin that goes missing is put back.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{MapData, MapInfo},
    programs::{ProgramInfo, loaded_programs},
};
use aya_obj::Object;
use datapath_common::names::maps::ALL;
use tracing::warn;

use super::{
    attach,
    link::{self, Link},
    pins,
};

/// Looks at what is pinned under the names of the object's maps. Where some are missing and others are not, the
/// missing ones are looked for behind the programs that are attached; those that nobody has begin empty.
///
/// # Errors
/// Names the first pin that is none of ours, and the remedy.
pub fn check(object: &[u8], pin_dir: &Path) -> Result<()> {
    let object = Object::parse(object).context("the eBPF object in this program")?;
    let dir = pins::maps(pin_dir);
    let mut missing = Vec::new();
    for name in ALL {
        let map = object
            .maps
            .get(*name)
            .with_context(|| format!("map {name} is not in the object"))?;
        let pin = dir.join(name);
        let refuse = |what: &str| {
            format!(
                "pin_dir: {}: {what}; take everything out with `datapath detach` and start the service anew",
                pin.display()
            )
        };
        match fs::symlink_metadata(&pin) {
            Err(_) => {
                missing.push(*name);
                continue;
            }
            Ok(data) if data.is_symlink() => bail!(refuse("a symbolic link, not a map")),
            Ok(_) => {}
        }
        let info = MapInfo::from_pin(&pin).with_context(|| refuse("not a map"))?;
        let found = (
            info.name_as_str(),
            info.map_type().ok().map(|kind| kind as u32),
            info.key_size(),
            info.value_size(),
        );
        let ours = (
            Some(*name),
            Some(map.map_type()),
            map.key_size(),
            map.value_size(),
        );
        if found != ours {
            bail!(refuse("not a map of datapath's, or of another version's"));
        }
    }
    if missing.len() < ALL.len() {
        recover(pin_dir, &missing);
    }
    for (pin, ifindex, program) in links(pin_dir) {
        if let Link::Attached { program: id } = attach::examine(&pin, &program, ifindex)? {
            link::require_ours(&pin, id, &program)?;
        }
    }
    Ok(())
}

/// Whether no map is pinned there.
#[must_use]
pub fn is_empty(maps: &Path) -> bool {
    fs::read_dir(maps).is_ok_and(|mut entries| entries.next().is_none())
}

/// The pins of classifiers: where they are, the interface's index, and the program's name.
fn links(pin_dir: &Path) -> Vec<(PathBuf, u32, String)> {
    fs::read_dir(pins::links(pin_dir))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let (program, ifindex) = attach::parse_classifier(&name)?;
            Some((entry.path(), ifindex, program.to_owned()))
        })
        .collect()
}

/// Pins maps again that the attached programs still use. Only CAP_SYS_ADMIN may look for them.
fn recover(pin_dir: &Path, missing: &[&str]) {
    if missing.is_empty() {
        return;
    }
    let used = in_use(pin_dir);
    for name in missing {
        let pinned = used
            .iter()
            .filter_map(|id| MapData::from_id(*id).ok())
            .find(|map| {
                map.info()
                    .is_ok_and(|info| info.name_as_str() == Some(*name))
            })
            .is_some_and(|map| map.pin(pins::maps(pin_dir).join(name)).is_ok());
        if pinned {
            warn!("map {name} was not pinned any more; the programs still had it, and it is again");
        } else {
            warn!("map {name} was not pinned any more; it begins empty");
        }
    }
}

/// The ids of the maps that the programs behind our links use.
fn in_use(pin_dir: &Path) -> Vec<u32> {
    let programs: Vec<_> = links(pin_dir)
        .into_iter()
        .filter_map(
            |(pin, ifindex, program)| match attach::examine(&pin, &program, ifindex) {
                Ok(Link::Attached { program }) => Some(program),
                _ => None,
            },
        )
        .collect();
    loaded_programs()
        .map_while(Result::ok)
        .filter(|program| programs.contains(&program.id()))
        .filter_map(|program| ProgramInfo::map_ids(&program).ok().flatten())
        .flatten()
        .collect()
}

/// The maps that this service works with, by their ids.
#[derive(Debug)]
pub struct Adopted(BTreeMap<&'static str, u32>);

impl Adopted {
    /// Those that are pinned.
    ///
    /// # Errors
    /// When one is not.
    pub fn of(pin_dir: &Path) -> Result<Self> {
        let dir = pins::maps(pin_dir);
        let id = |name: &&'static str| Ok((*name, MapInfo::from_pin(dir.join(name))?.id()));
        Ok(Self(ALL.iter().map(id).collect::<Result<_>>()?))
    }

    /// Whether none of their pins is missing, whatever is there.
    #[must_use]
    pub fn are_pinned(&self, pin_dir: &Path) -> bool {
        let dir = pins::maps(pin_dir);
        let mut names = self.0.keys();
        names.all(|name| fs::symlink_metadata(dir.join(name)).is_ok())
    }

    /// Looks whether they are still pinned, and root's alone, and pins those again that are not.
    ///
    /// # Errors
    /// When something else is pinned in the place of one: it is neither used nor removed.
    pub fn restore(&self, ebpf: &Ebpf, pin_dir: &Path) -> Result<()> {
        pins::prepare(pin_dir)?;
        for (name, id) in &self.0 {
            let pin = pins::maps(pin_dir).join(name);
            let stranger = || {
                format!(
                    "pin_dir: {}: not the map that the service works with; remove it",
                    pin.display()
                )
            };
            match fs::symlink_metadata(&pin) {
                Ok(data) if data.is_symlink() => bail!(stranger()),
                Ok(data) => {
                    let found = MapInfo::from_pin(&pin).with_context(stranger)?;
                    if found.id() != *id {
                        bail!(stranger());
                    }
                    if data.mode() & 0o7777 != pins::PRIVATE {
                        pins::make_private(&pin)
                            .with_context(|| format!("pin_dir: {}: not private", pin.display()))?;
                        warn!("others could open map {name}; they cannot any more");
                    }
                }
                Err(_) => {
                    let map = ebpf
                        .map(name)
                        .with_context(|| format!("map {name} is gone"))?;
                    map.pin(&pin).with_context(|| format!("map {name}"))?;
                    pins::make_private(&pin)?;
                    warn!("map {name} was not pinned any more; it is again");
                }
            }
        }
        Ok(())
    }
}
