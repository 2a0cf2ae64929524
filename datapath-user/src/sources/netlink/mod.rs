//! The host's links, addresses and routes, by rtnetlink. Everything is dumped anew each time: a message only
//! says that something changed, never what is true.

mod frames;
mod host;
mod neighbours;
mod way;
mod xdp;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use self::{
    host::{Address, Frames, Host, Link, Neighbour, Route, Station},
    way::Way,
};
use anyhow::{Context as _, Result, anyhow};
use futures::{StreamExt as _, TryStreamExt as _, channel::mpsc::UnboundedReceiver};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressHeaderFlags, AddressScope},
    link::{InfoBridgePort, InfoKind, InfoPortData, LinkAttribute, LinkInfo, LinkLayerType},
    route::{RouteAttribute, RouteMetric, RouteType},
    rule::RuleAttribute,
};
use rtnetlink::{
    Handle, IpVersion, LinkBridgePort, MulticastGroup, RouteMessageBuilder, new_connection,
    new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    proto::Connection,
    sys::SocketAddr,
};
use tokio::{sync::mpsc, time};
use tracing::{debug, warn};

/// What wakes the service up: everything that its view of the network is made of.
const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Neigh,
];
/// How long the kernel may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait before a connection that could not be had is tried again.
const BREATH: Duration = Duration::from_secs(1);

/// A connection to the kernel, and a wake-up for every change.
pub struct Netlink {
    /// For questions only: messages that nobody asked for may overrun a socket, and an answer would go with them.
    handle: Mutex<Handle>,
    /// Receives an item whenever something may have changed. It holds one: more say nothing new.
    pub changed: mpsc::Receiver<()>,
    /// A link is another than it was.
    relinked: Arc<AtomicBool>,
}

impl Netlink {
    /// Connects in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn connect() -> Result<Self> {
        let listener = new_multicast_connection(&GROUPS)
            .context("netlink: no socket to the kernel's routing")?;
        let (wake, changed) = mpsc::channel(1);
        if let Err(error) = frames::watch(wake.clone()) {
            debug!("{error:#}");
        }
        let relinked = Arc::default();
        tokio::spawn(listen(listener, wake, Arc::clone(&relinked)));
        Ok(Self {
            handle: Mutex::new(ask()?),
            changed,
            relinked,
        })
    }

    /// Whether a link came, went, or became another since this was asked last.
    pub fn relinked(&self) -> bool {
        self.relinked.swap(false, Ordering::Relaxed)
    }

    /// The host's network as it is now.
    ///
    /// # Errors
    /// When a dump fails, or does not end. The next one goes over another connection.
    pub async fn dump(&self) -> Result<Host> {
        let dump = time::timeout(PATIENCE, self.look()).await;
        let result = dump.unwrap_or_else(|_| Err(anyhow!("netlink: the kernel does not answer")));
        if result.is_err()
            && let Ok(fresh) = ask()
        {
            *self.lock() = fresh;
        }
        result
    }

    async fn look(&self) -> Result<Host> {
        Ok(Host {
            links: self.links().await.context("netlink: links")?,
            addresses: self.addresses().await.context("netlink: addresses")?,
            routes: self.routes().await.context("netlink: routes")?,
            fine_rules: self.has_fine_rules().await.context("netlink: rules")?,
            neighbours: neighbours::neighbours(&self.handle())
                .await
                .context("netlink: neighbours")?,
            stations: neighbours::stations(&self.handle())
                .await
                .context("netlink: bridges")?,
        })
    }

    /// Lets the kernel ask anew who has these addresses. What was sent to an endpoint before it was there, or before its
    /// bridge's port was up, left a question without an answer, which the kernel asks again after a second
    /// (`retrans_time_ms`): until then it sends nothing to an endpoint that has come meanwhile.
    ///
    /// # Errors
    /// When the kernel does not tell its neighbours.
    pub async fn ask_anew(&self, addresses: &BTreeSet<IpAddr>) -> Result<()> {
        let handle = self.handle();
        let done = time::timeout(PATIENCE, neighbours::ask_anew(&handle, addresses)).await;
        done.unwrap_or_else(|_| Err(anyhow!("the kernel does not answer")))
            .context("netlink: neighbours")
    }

    /// The ids of the XDP programs on an interface.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn xdp_programs(&self, ifindex: u32) -> Result<BTreeSet<u32>> {
        xdp::programs(&self.handle(), ifindex).await
    }

    /// Sets a bridge port's `isolated` flag.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn isolate(&self, ifindex: u32, isolated: bool) -> Result<()> {
        let message = LinkBridgePort::new(ifindex).isolated(isolated).build();
        Ok(self.handle().link().set_port(message).execute().await?)
    }

    fn handle(&self) -> Handle {
        self.lock().clone()
    }

    /// Nothing panics while it has it.
    fn lock(&self) -> MutexGuard<'_, Handle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn links(&self) -> Result<Vec<Link>> {
        // Without an answer no interface does anything with frames: all goes by the stack.
        let frames = frames::dump().unwrap_or_default();
        let mut links = Vec::new();
        let mut dump = self.handle().link().get().execute();
        while let Some(message) = dump.try_next().await? {
            let mut link = Link {
                name: String::new(),
                ifindex: message.header.index,
                ethernet: message.header.link_layer_type == LinkLayerType::Ether,
                master: None,
                mac: None,
                leads_elsewhere: false,
                isolated: false,
                vlan_of: None,
                frames: frames
                    .get(&message.header.index)
                    .copied()
                    .unwrap_or_default(),
            };
            let (mut veth, mut elsewhere) = (false, false);
            let (mut vlan, mut below) = (false, None);
            for attribute in message.attributes {
                if let LinkAttribute::IfName(name) = attribute {
                    link.name = name;
                } else if let LinkAttribute::Controller(master) = attribute {
                    link.master = Some(master);
                } else if let LinkAttribute::Address(bytes) = attribute {
                    link.mac = bytes.try_into().ok();
                } else if let LinkAttribute::LinkInfo(infos) = attribute {
                    veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth));
                    vlan = infos.contains(&LinkInfo::Kind(InfoKind::Vlan));
                    link.isolated = infos.iter().any(is_isolated);
                } else if let LinkAttribute::Link(index) = attribute {
                    below = Some(index);
                } else if let LinkAttribute::LinkNetNsId(_) = attribute {
                    elsewhere = true;
                }
            }
            link.leads_elsewhere = veth && elsewhere;
            link.vlan_of = below.filter(|_| vlan);
            links.push(link);
        }
        Ok(links)
    }

    async fn addresses(&self) -> Result<Vec<Address>> {
        let mut addresses = Vec::new();
        let mut dump = self.handle().address().get().execute();
        while let Some(message) = dump.try_next().await? {
            let flags = message.header.flags;
            let (mut address, mut local) = (None, None);
            for attribute in message.attributes {
                if let AddressAttribute::Address(addr) = attribute {
                    address = Some(addr);
                } else if let AddressAttribute::Local(addr) = attribute {
                    local = Some(addr);
                }
            }
            // On a point-to-point link `Address` is the peer's.
            let Some(addr) = local.or(address) else {
                continue;
            };
            if addr.is_loopback() || flags.contains(AddressHeaderFlags::Tentative) {
                continue;
            }
            let poor = AddressHeaderFlags::Secondary | AddressHeaderFlags::Deprecated;
            addresses.push(Address {
                ifindex: message.header.index,
                addr,
                prefix: message.header.prefix_len,
                preferred: message.header.scope == AddressScope::Universe
                    && !flags.intersects(poor),
            });
        }
        Ok(addresses)
    }

    async fn routes(&self) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        let requests = [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ];
        for request in requests {
            let mut dump = self.handle().route().get(request).execute();
            while let Some(message) = dump.try_next().await? {
                let header = &message.header;
                // Of any table: rules may lead there.
                if header.kind != RouteType::Unicast {
                    continue;
                }
                let (mut ifindex, mut gateway, mut bounded) = (None, None, false);
                let mut hops = Vec::new();
                for attribute in &message.attributes {
                    if let RouteAttribute::Oif(index) = attribute {
                        ifindex = Some(*index);
                    } else if let RouteAttribute::Gateway(hop) = attribute {
                        gateway = hop_address(hop);
                    } else if let RouteAttribute::MultiPath(several) = attribute {
                        hops.extend(several.iter().map(|hop| {
                            let gateways = hop.attributes.iter();
                            (hop.interface_index, gateways.filter_map(gateway_of).next())
                        }));
                    } else if let RouteAttribute::Metrics(metrics) = attribute {
                        bounded |= metrics
                            .iter()
                            .any(|metric| matches!(metric, RouteMetric::Mtu(_)));
                    }
                }
                let shared = !hops.is_empty();
                hops.extend(
                    ifindex
                        .filter(|_| !shared)
                        .map(|ifindex| (ifindex, gateway)),
                );
                for (ifindex, gateway) in hops {
                    let known = matches!(
                        header.address_family,
                        AddressFamily::Inet | AddressFamily::Inet6
                    );
                    if known {
                        routes.push(Route {
                            ifindex,
                            gateway,
                            bounded,
                            shared,
                        });
                    }
                }
            }
        }
        Ok(routes)
    }

    async fn has_fine_rules(&self) -> Result<bool> {
        for version in [IpVersion::V4, IpVersion::V6] {
            let mut dump = self.handle().rule().get(version).execute();
            let mut fine = false;
            while let Some(rule) = dump.try_next().await? {
                fine |= rule.header.tos != 0
                    || rule.attributes.iter().any(|attribute| {
                        matches!(
                            attribute,
                            RuleAttribute::IpProtocol(_)
                                | RuleAttribute::SourcePortRange(_)
                                | RuleAttribute::DestinationPortRange(_)
                        )
                    });
            }
            if fine {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A connection for questions.
fn ask() -> Result<Handle> {
    let (connection, handle, _) =
        new_connection().context("netlink: no socket to the kernel's routing")?;
    tokio::spawn(connection);
    Ok(handle)
}

type Listener = (
    Connection<RouteNetlinkMessage>,
    Handle,
    UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
);

/// Wakes the service up for whatever the kernel says: messages that were lost (ENOBUFS) included. A connection that
/// ends is followed by another, and by a look at everything.
async fn listen(listener: Listener, wake: mpsc::Sender<()>, relinked: Arc<AtomicBool>) {
    let mut listener = Ok(listener);
    loop {
        match listener {
            Ok((connection, handle, mut messages)) => {
                let connection = tokio::spawn(connection);
                while let Some((message, _)) = messages.next().await {
                    if of_a_link(&message) {
                        relinked.store(true, Ordering::Relaxed);
                    }
                    if let Err(mpsc::error::TrySendError::Closed(())) = wake.try_send(()) {
                        connection.abort();
                        return;
                    }
                }
                drop(handle);
                warn!("netlink: the kernel's messages ended; they are listened to anew");
            }
            Err(error) => warn!("netlink: the kernel cannot be listened to: {error}"),
        }
        time::sleep(BREATH).await;
        listener = new_multicast_connection(&GROUPS);
        relinked.store(true, Ordering::Relaxed);
        // A wake-up that waits already says the same.
        let _ = wake.try_send(());
    }
}

fn of_a_link(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    matches!(
        message.payload,
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_)
        )
    )
}

fn is_isolated(info: &LinkInfo) -> bool {
    let LinkInfo::PortData(InfoPortData::BridgePort(port)) = info else {
        return false;
    };
    port.contains(&InfoBridgePort::Isolated(true))
}

fn gateway_of(attribute: &RouteAttribute) -> Option<IpAddr> {
    if let RouteAttribute::Gateway(hop) = attribute {
        hop_address(hop)
    } else {
        None
    }
}

fn hop_address(hop: &netlink_packet_route::route::RouteAddress) -> Option<IpAddr> {
    use netlink_packet_route::route::RouteAddress;
    if let RouteAddress::Inet(addr) = hop {
        Some(IpAddr::V4(*addr))
    } else if let RouteAddress::Inet6(addr) = hop {
        Some(IpAddr::V6(*addr))
    } else {
        None
    }
}
