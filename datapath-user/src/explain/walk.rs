//! The way of the packet: which programs see it, in which order, and what lies between them.

mod across;
mod facts;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use datapath_common::{
    family::{Address as _, V4, V6},
    names::programs::{BRIDGE_INGRESS, UPLINK_EGRESS, UPLINK_INGRESS, UPLINK_XDP, VETH_INGRESS},
    network::Network,
    proto,
    reason::{Outcome, Reason},
    tuple::Direction,
    way::Mac,
};

use super::{Binding, Explanation, Packet, Question, Step, packet};
use crate::{
    kernel::{
        attach,
        pinned::Pinned,
        pins,
        rehearsal::{Ran, Rehearsal},
        tables::{Tabled, Tables},
        xdp,
    },
    remedy::remedy,
    sources::netlink::{Host, Netlink},
    view::PortView,
};

/// Explains what would happen to a packet that arrives at the named interface, else where its source is.
///
/// # Errors
/// When nothing is pinned, the interface is not one of ours, or the kernel refuses to run the programs.
pub async fn explain(pin_dir: &Path, question: &Question, at: Option<&str>) -> Result<Explanation> {
    let pinned = Pinned::open(pin_dir)?;
    pinned.require_here("explain")?;
    let tables = Tables::new(pin_dir);
    let netlink = Netlink::connect()?;
    let mut walk = Walk {
        question: *question,
        asked: None,
        host: netlink.dump().await?,
        netlink,
        links: attached(pin_dir)?,
        ports: pinned.ports()?,
        copy: Rehearsal::new(&tables)?,
        tables,
        first: true,
        way_out: None,
        steps: Vec::new(),
        exact: true,
    };
    walk.put_on_the_wire(at)?;
    match walk.question.src.ip() {
        IpAddr::V4(_) => walk.explain::<V4>(at).await,
        IpAddr::V6(_) => walk.explain::<V6>(at).await,
    }
}

/// The pinned links, by program and interface.
fn attached(pin_dir: &Path) -> Result<BTreeMap<(String, u32), PathBuf>> {
    let mut links = BTreeMap::new();
    for entry in std::fs::read_dir(pins::links(pin_dir))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some((ifindex, _)) = xdp::parse_pin(&name) {
            links.insert((UPLINK_XDP.to_owned(), ifindex), entry.path());
        } else if let Some((program, ifindex)) = attach::parse_classifier(&name) {
            links.insert((program.to_owned(), ifindex), entry.path());
        }
    }
    Ok(links)
}

/// A walk under way.
struct Walk {
    question: Question,
    /// What was asked for, if that is no packet of one family.
    asked: Option<packet::Ends>,
    host: Host,
    netlink: Netlink,
    links: BTreeMap<(String, u32), PathBuf>,
    ports: Vec<PortView>,
    copy: Rehearsal,
    tables: Tables,
    first: bool,
    /// The interface that an answer to a client of the other family leaves by.
    way_out: Option<u32>,
    steps: Vec<Step>,
    exact: bool,
}

/// How it ended.
struct End {
    reason: Option<Reason>,
    because: String,
    way: Option<String>,
    interface: Option<String>,
}

impl Walk {
    async fn explain<F: Tabled>(mut self, at: Option<&str>) -> Result<Explanation> {
        let end = self.walk::<F>(at).await?;
        let outcome = end.reason.map(Reason::outcome);
        let flow = match outcome {
            Some(Outcome::Translate) => self.flow()?,
            _ => None,
        };
        let slot = flow.as_ref().map(|(_, slot)| *slot);
        let port = self.ports.iter().find(|port| Some(port.slot) == slot);
        let binding = port.or_else(|| self.led::<F>()).map(binding);
        Ok(Explanation {
            asked: self.asked,
            packet: Packet {
                protocol: proto::name(self.question.protocol).unwrap_or("unknown"),
                ends: self.question.ends(),
                interface: end.interface,
                first: self.first,
            },
            verdict: match outcome {
                Some(Outcome::Translate) => "translated",
                Some(Outcome::Drop) => "dropped",
                Some(Outcome::Pass) | None => "passed",
            },
            because: end.because,
            steps: self.steps,
            binding,
            flow: flow.map(|(flow, _)| flow),
            way: end.way,
            remedy: end.reason.and_then(remedy),
            exact: self.exact,
        })
    }

    async fn walk<F: Tabled>(&mut self, at: Option<&str>) -> Result<End> {
        let src = self.question.src.ip();
        let Some(name) = at else {
            if self.is_local::<F>(src)? {
                return self.begin_here::<F>().await;
            }
            if let Some(network) = self.network::<F>(src)? {
                return self.leave::<F>(network.bridge, None).await;
            }
            let uplink = self.uplink_to(src).await?;
            return self.arrive::<F>(uplink).await;
        };
        let link = self
            .host
            .link(name)
            .with_context(|| format!("--in: {name}: there is no such interface here"))?;
        let (ifindex, master) = (link.ifindex, link.master);
        if self.has(UPLINK_INGRESS, ifindex) {
            return self.arrive::<F>(ifindex).await;
        }
        if self.has(BRIDGE_INGRESS, ifindex) {
            return self.leave::<F>(ifindex, None).await;
        }
        match master.filter(|bridge| self.has(BRIDGE_INGRESS, *bridge)) {
            Some(bridge) => self.leave::<F>(bridge, Some(ifindex)).await,
            None => bail!(
                "--in: {name}: no program is attached there, so its packets are the kernel's alone; `datapath status` \
                 lists the interfaces that have one"
            ),
        }
    }

    /// The uplink that a packet from there would arrive at: the one that answers leave by.
    async fn uplink_to(&self, src: IpAddr) -> Result<u32> {
        let uplinks: Vec<u32> = self
            .links
            .keys()
            .filter(|(program, _)| program == UPLINK_INGRESS)
            .map(|(_, ifindex)| *ifindex)
            .collect();
        let back = self.netlink.way(self.own(src), src, None).await;
        match (back, uplinks.as_slice()) {
            (Ok(way), _) if uplinks.contains(&way.ifindex) => Ok(way.ifindex),
            (_, [only]) => Ok(*only),
            _ => bail!("it cannot be told where {src} would arrive; name the interface with --in"),
        }
    }

    async fn arrive<F: Tabled>(&mut self, uplink: u32) -> Result<End> {
        self.know::<F>(Direction::ToEndpoint)?;
        let mut ran = None;
        if self.has(UPLINK_XDP, uplink) {
            ran = Some(self.run(UPLINK_XDP, uplink)?).filter(|ran| ran.reason.is_some());
        }
        let ran = match ran {
            Some(ran) => ran,
            None => self.run(UPLINK_INGRESS, uplink)?,
        };
        let mut end = self.end(&ran, uplink);
        match ran.reason.map(Reason::outcome) {
            Some(Outcome::Translate) => {
                let to = packet::ends(&ran.frame)?;
                end.way = Some(if ran.redirected {
                    self.past_the_stack(to.dst)?
                } else {
                    self.through_the_stack(to.src, to.dst, Some(uplink)).await
                });
            }
            Some(Outcome::Drop) => {}
            Some(Outcome::Pass) | None => {
                let (src, dst) = (self.question.src.ip(), self.question.dst.ip());
                end.way = Some(self.through_the_stack(src, dst, Some(uplink)).await);
            }
        }
        Ok(end)
    }

    async fn leave<F: Tabled>(&mut self, bridge: u32, port: Option<u32>) -> Result<End> {
        self.know::<F>(Direction::FromEndpoint)?;
        let (src, dst) = (self.question.src.ip(), self.question.dst.ip());
        let neighbours = self
            .network::<F>(dst)?
            .is_some_and(|network| network.bridge == bridge);
        if neighbours && !self.is_local::<F>(dst)? {
            return self.among_neighbours::<F>(bridge);
        }
        let known = F::Addr::from_ip(src)
            .and_then(|addr| self.tables.endpoints::<F>().ok()?.1.get(&addr, 0).ok());
        let port = port.or(known.map(|endpoint| endpoint.port));
        if let Some(port) = port.filter(|port| self.has(VETH_INGRESS, *port)) {
            let from = known.map_or(packet::SENDER, |endpoint| endpoint.mac);
            let ran = self.run_as(VETH_INGRESS, port, [self.mac(bridge), from])?;
            if ran.reason.is_some() {
                let mut end = self.end(&ran, port);
                if ran.redirected {
                    let to = packet::ends(&ran.frame)?.dst;
                    end.way = Some(match self.network::<F>(to)? {
                        Some(_) => self.past_the_stack(to)?,
                        None => format!("past the stack, out by {}", self.hop::<F>()),
                    });
                }
                return Ok(end);
            }
        }
        if !self.has(BRIDGE_INGRESS, bridge) {
            bail!("{}: no program is attached there", self.name(bridge));
        }
        let ran = self.run(BRIDGE_INGRESS, bridge)?;
        let mut end = self.end(&ran, bridge);
        match ran.reason.map(Reason::outcome) {
            Some(Outcome::Translate) => {
                let to = packet::ends(&ran.frame)?;
                let back = self.network::<F>(to.dst)?.map(|network| network.bridge);
                let out = match (back, self.way_out) {
                    (Some(bridge), _) => Some(format!("back out by {}", self.name(bridge))),
                    (None, uplink) => uplink.map(|uplink| format!("out by {}", self.name(uplink))),
                };
                end.way = out.map(|out| format!("past the stack, {out}"));
                return Ok(end);
            }
            Some(Outcome::Drop) => return Ok(end),
            Some(Outcome::Pass) | None => {}
        }
        self.outward(end, Some(bridge)).await
    }

    /// What the stack does with it next, and the uplink's program.
    async fn outward(&mut self, mut end: End, from: Option<u32>) -> Result<End> {
        let (src, dst) = (self.question.src.ip(), self.question.dst.ip());
        let way = match self.netlink.way(src, dst, from).await {
            Ok(way) if !way.local && self.has(UPLINK_EGRESS, way.ifindex) => way,
            _ => {
                end.way = Some(self.through_the_stack(src, dst, from).await);
                return Ok(end);
            }
        };
        let ran = self.run(UPLINK_EGRESS, way.ifindex)?;
        let interface = end.interface;
        end = self.end(&ran, way.ifindex);
        end.interface = interface;
        if ran.reason.map(Reason::outcome) != Some(Outcome::Drop) {
            end.way = Some(self.through_the_stack(src, dst, from).await);
        }
        Ok(end)
    }

    /// Two endpoints of one bridge: none of our programs sees what the bridge passes between its ports.
    fn among_neighbours<F: Tabled>(&self, bridge: u32) -> Result<End> {
        let network = self.network::<F>(self.question.dst.ip())?;
        let name = self.name(bridge);
        let passes = network.is_some_and(|network| network.has(Network::ICC));
        let because = if passes {
            format!("both are endpoints of {name}, which passes it on by itself")
        } else {
            format!(
                "both are endpoints of {name}, whose ports are isolated from each other (`icc = false`): the bridge drops \
                 it, uncounted"
            )
        };
        Ok(End {
            reason: None,
            because,
            way: passes.then(|| format!("from port to port of {name}")),
            interface: Some(name),
        })
    }

    /// A process of the host: led at the socket, or sent by the stack.
    async fn begin_here<F: Tabled>(&mut self) -> Result<End> {
        let end = End {
            reason: None,
            because: "this host's own; it is none of ours".to_owned(),
            way: None,
            interface: None,
        };
        if let Some(port) = self.led::<F>() {
            let to = port.publication.target();
            return Ok(End {
                because: format!(
                    "a process of this host that dials it is led to {to} at its socket: no packet is translated"
                ),
                way: Some(
                    self.through_the_stack(self.own(to.ip()), to.ip(), None)
                        .await,
                ),
                ..end
            });
        }
        self.know::<F>(Direction::FromEndpoint)?;
        self.outward(end, None).await
    }

    fn run(&mut self, program: &'static str, ifindex: u32) -> Result<Ran> {
        self.run_as(program, ifindex, [self.mac(ifindex), packet::SENDER])
    }

    /// Runs a program at an interface on a frame with these addresses, destination first, and takes it down.
    fn run_as(&mut self, program: &'static str, ifindex: u32, frame: [Mac; 2]) -> Result<Ran> {
        let frame = self.question.frame(frame, self.first)?;
        let ran = self.copy.run(program, ifindex, &frame)?;
        if let Some(link) = self.links.get(&(program.to_owned(), ifindex)) {
            self.exact &= self.copy.is_the_one_in_force(link, program)?;
        }
        let ends = packet::ends(&ran.frame)?;
        self.steps.push(Step {
            program,
            interface: self.name(ifindex),
            reason: ran.reason.map(Reason::name),
            outcome: ran.reason.map_or("pass", |reason| reason.outcome().name()),
            meaning: ran.reason.map_or("", Reason::meaning),
            becomes: (ends != self.question.ends()).then_some(ends),
        });
        Ok(ran)
    }

    fn end(&self, ran: &Ran, ifindex: u32) -> End {
        End {
            reason: ran.reason,
            because: ran.reason.map_or("", Reason::meaning).to_owned(),
            way: None,
            interface: Some(self.name(ifindex)),
        }
    }
}

fn binding(port: &PortView) -> Binding {
    let publication = &port.publication;
    Binding {
        listen: publication.listen.to_string(),
        to: publication.target().to_string(),
        owner: publication.owner.clone(),
    }
}
