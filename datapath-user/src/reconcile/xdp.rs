//! Where the program at the driver's level is run, and why.

use std::collections::BTreeMap;

use anyhow::Result;
use datapath_common::way::{Card as Place, Cards, MAX_CARDS};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::Desired;
use crate::{
    config::XdpMode,
    kernel::{
        card::Card,
        tables::Tables,
        xdp::{self, Mode},
    },
    sources::netlink::{Frames, Link},
};

/// How an uplink's packets are met at the driver's level, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// The uplink.
    pub uplink: String,
    /// `native`, `generic` or `off`.
    pub mode: String,
    /// Why.
    pub because: String,
}

/// What there is to know of an uplink.
struct Facts<'a> {
    card: &'a Card,
    frames: Frames,
    /// A VLAN's interface sits on it.
    has_vlans: bool,
    /// The program is there already.
    attached: bool,
    /// An endpoint's port takes frames.
    taken: bool,
}

/// Whether the program is to be attached, and why.
fn decide(configured: XdpMode, facts: &Facts<'_>) -> (Option<Mode>, String) {
    let driver = match facts.card.driver.as_str() {
        "" => "its driver",
        name => name,
    };
    let off = |because: String| (None, because);
    let blind = facts.card.hides_vlans;
    match configured {
        XdpMode::Off => off("xdp = \"off\"".to_owned()),
        _ if blind && facts.has_vlans => off(
            "it has VLANs, and their tags are taken out before XDP: `ethtool -K IF rxvlan off` leaves them in"
                .to_owned(),
        ),
        XdpMode::Native => (Some(Mode::Native), "xdp = \"native\"".to_owned()),
        XdpMode::Generic => (Some(Mode::Generic), "xdp = \"generic\"".to_owned()),
        XdpMode::Auto if driver == "veth" => {
            off("veth: XDP would take segmentation offload from whoever sends".to_owned())
        }
        XdpMode::Auto if !facts.frames.runs => off(format!("{driver} does not run XDP programs")),
        XdpMode::Auto if blind => off(format!(
            "{driver} takes VLAN tags out before XDP; `ethtool -K IF rxvlan off` leaves them in"
        )),
        XdpMode::Auto if !facts.taken && !facts.attached => {
            off("no endpoint takes frames (GRO in the container: `ethtool -K eth0 gro on`)".to_owned())
        }
        XdpMode::Auto => (Some(Mode::Native), format!("{driver} runs XDP programs")),
    }
}

/// Brings programs and maps to what should be, and says what that is, for each uplink. What the kernel refuses is no
/// fault of the datapath's: the same work is done at TC. `known` is what ran the last time, and then what runs now.
///
/// # Errors
/// When maps or pins cannot be read or written.
pub fn apply(
    ebpf: &mut aya::Ebpf,
    pin_dir: &std::path::Path,
    tables: &Tables,
    desired: &Desired,
    configured: XdpMode,
    known: &mut BTreeMap<u32, Mode>,
) -> Result<Vec<Level>> {
    let ports = takers(desired);
    sync_ports(tables, &ports)?;
    let attached = xdp::attached(pin_dir)?;
    let mut levels = Vec::new();
    let mut wanted = BTreeMap::new();
    for link in &desired.uplinks {
        let (mode, because) = match Card::of(&link.name) {
            Ok(card) => decide(
                configured,
                &Facts {
                    card: &card,
                    frames: link.frames,
                    has_vlans: has_vlans(desired, link),
                    attached: attached.contains_key(&link.ifindex),
                    taken: !ports.is_empty(),
                },
            ),
            Err(error) => (None, format!("its driver says nothing: {error}")),
        };
        match mode {
            Some(_) if wanted.len() == MAX_CARDS => {
                levels.push((link, None, format!("only {MAX_CARDS} uplinks can have it")));
            }
            Some(mode) => {
                wanted.insert(link.ifindex, mode);
                levels.push((link, Some(mode), because));
            }
            None => levels.push((link, None, because)),
        }
    }
    // The addresses first: without its own a program leaves everything alone.
    sync_cards(tables, desired, &wanted)?;
    let faults = xdp::reconcile(ebpf, pin_dir, &wanted, known)?;
    wanted.retain(|ifindex, _| !faults.contains_key(ifindex));
    *known = wanted;
    Ok(levels
        .into_iter()
        .map(|(link, mode, because)| {
            let fault = faults.get(&link.ifindex);
            let mode = mode.filter(|_| fault.is_none());
            Level {
                uplink: link.name.clone(),
                mode: mode.map_or("off", Mode::name).to_owned(),
                because: fault.cloned().unwrap_or(because),
            }
        })
        .collect())
}

/// Says what changed.
pub fn tell(before: &[Level], now: &[Level], configured: XdpMode) {
    for level in now.iter().filter(|level| !before.contains(level)) {
        let Level {
            uplink,
            mode,
            because,
        } = level;
        let asked = matches!(configured, XdpMode::Native | XdpMode::Generic);
        if asked && mode == "off" {
            warn!("XDP on {uplink}: off ({because})");
        } else {
            info!("XDP on {uplink}: {mode} ({because})");
        }
    }
}

/// The ports of endpoints that take frames.
fn takers(desired: &Desired) -> Vec<u32> {
    let links = desired.host.links.iter().filter(|link| link.frames.takes);
    links
        .filter(|link| super::endpoints::is_port(&desired.networks, link))
        .map(|link| link.ifindex)
        .collect()
}

fn has_vlans(desired: &Desired, uplink: &Link) -> bool {
    let mut links = desired.host.links.iter();
    links.any(|link| link.vlan_of == Some(uplink.ifindex))
}

fn sync_ports(tables: &Tables, ports: &[u32]) -> Result<()> {
    let mut map = tables.frame_ports()?;
    let present: Vec<u32> = map.keys().collect::<Result<_, _>>()?;
    for port in present.iter().filter(|port| !ports.contains(port)) {
        // The kernel may have taken it out meanwhile, with the interface.
        drop(map.remove(*port));
    }
    for port in ports.iter().filter(|port| !present.contains(port)) {
        // An interface that has just gone cannot be put in, and need not be.
        drop(map.insert(*port, *port, None, 0));
    }
    Ok(())
}

fn sync_cards(tables: &Tables, desired: &Desired, wanted: &BTreeMap<u32, Mode>) -> Result<()> {
    let mut cards = Cards::default();
    let links = desired.uplinks.iter();
    let places = links.filter(|link| wanted.contains_key(&link.ifindex));
    for (place, link) in cards.cards.iter_mut().zip(places) {
        *place = Place {
            ifindex: link.ifindex,
            mac: link.mac.unwrap_or_default(),
            zero: 0,
        };
    }
    let mut map = tables.cards()?;
    if map.get(&0, 0)? != cards {
        map.set(0, cards, 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(driver: &str, hides_vlans: bool) -> Card {
        Card {
            driver: driver.to_owned(),
            hides_vlans,
        }
    }

    fn mode(configured: XdpMode, card: &Card, change: impl Fn(&mut Facts<'_>)) -> Option<Mode> {
        let mut facts = Facts {
            card,
            frames: Frames {
                runs: true,
                takes: true,
            },
            has_vlans: false,
            attached: false,
            taken: true,
        };
        change(&mut facts);
        decide(configured, &facts).0
    }

    #[test]
    fn auto_is_native_where_nothing_is_lost_by_it() {
        let auto = XdpMode::Auto;
        let (good, blind) = (card("virtio_net", false), card("igb", true));
        assert_eq!(mode(auto, &good, |_| {}), Some(Mode::Native));
        assert_eq!(mode(auto, &blind, |_| {}), None);
        assert_eq!(mode(auto, &card("veth", false), |_| {}), None);
        assert_eq!(mode(auto, &good, |facts| facts.frames.runs = false), None);
        assert_eq!(mode(auto, &good, |facts| facts.taken = false), None);
        let stays = |facts: &mut Facts<'_>| (facts.taken, facts.attached) = (false, true);
        assert_eq!(mode(auto, &good, stays), Some(Mode::Native));
    }

    #[test]
    fn what_is_asked_for_is_done_unless_it_would_be_wrong() {
        let veth = card("veth", true);
        for (asked, got) in [
            (XdpMode::Native, Some(Mode::Native)),
            (XdpMode::Generic, Some(Mode::Generic)),
            (XdpMode::Off, None),
        ] {
            assert_eq!(mode(asked, &veth, |_| {}), got);
            assert_eq!(mode(asked, &veth, |facts| facts.has_vlans = true), None);
        }
    }
}
