//! The host's links, addresses and routes, by rtnetlink. Everything is dumped anew each time: a message only
//! says that something changed, never what is true.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressHeaderFlags, AddressScope},
    link::{LinkAttribute, LinkLayerType},
    route::{RouteAttribute, RouteHeader, RouteType},
};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};
use tokio::sync::mpsc;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Frames on it begin with an Ethernet header.
    pub ethernet: bool,
    /// The bridge (or other master) that it is a port of.
    pub master: Option<u32>,
}

/// An address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface that carries it.
    pub ifindex: u32,
    /// The address.
    pub addr: IpAddr,
    /// Bits of its prefix.
    pub prefix: u8,
    /// It may be a source for packets to anywhere: universe scope, not secondary, not deprecated.
    pub preferred: bool,
}

/// A unicast route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface that it leads out of.
    pub ifindex: u32,
    /// The next hop, if there is one.
    pub gateway: Option<IpAddr>,
}

/// What the host's network looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The interfaces.
    pub links: Vec<Link>,
    /// The addresses, loopback excepted.
    pub addresses: Vec<Address>,
    /// The routes.
    pub routes: Vec<Route>,
}

impl Host {
    /// An interface by its name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// A connection to the kernel, and a wake-up for every change.
pub struct Netlink {
    handle: Handle,
    /// Receives an item whenever something may have changed. It holds one: more say nothing new.
    pub changed: mpsc::Receiver<()>,
}

impl Netlink {
    /// Connects in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn connect() -> Result<Self> {
        let (connection, handle, mut messages) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])
        .context("netlink: no socket to the kernel's routing")?;
        let (wake, changed) = mpsc::channel(1);
        tokio::spawn(connection);
        tokio::spawn(async move {
            while messages.next().await.is_some() {
                if let Err(mpsc::error::TrySendError::Closed(())) = wake.try_send(()) {
                    return;
                }
            }
        });
        Ok(Self { handle, changed })
    }

    /// The host's network as it is now.
    ///
    /// # Errors
    /// When a dump fails.
    pub async fn dump(&self) -> Result<Host> {
        Ok(Host {
            links: self.links().await.context("netlink: links")?,
            addresses: self.addresses().await.context("netlink: addresses")?,
            routes: self.routes().await.context("netlink: routes")?,
        })
    }

    async fn links(&self) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        let mut dump = self.handle.link().get().execute();
        while let Some(message) = dump.try_next().await? {
            let mut link = Link {
                name: String::new(),
                ifindex: message.header.index,
                ethernet: message.header.link_layer_type == LinkLayerType::Ether,
                master: None,
            };
            for attribute in message.attributes {
                if let LinkAttribute::IfName(name) = attribute {
                    link.name = name;
                } else if let LinkAttribute::Controller(master) = attribute {
                    link.master = Some(master);
                }
            }
            links.push(link);
        }
        Ok(links)
    }

    async fn addresses(&self) -> Result<Vec<Address>> {
        let mut addresses = Vec::new();
        let mut dump = self.handle.address().get().execute();
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
            let mut dump = self.handle.route().get(request).execute();
            while let Some(message) = dump.try_next().await? {
                let header = &message.header;
                if header.kind != RouteType::Unicast || header.table != RouteHeader::RT_TABLE_MAIN {
                    continue;
                }
                let (mut ifindex, mut gateway) = (None, None);
                for attribute in &message.attributes {
                    if let RouteAttribute::Oif(index) = attribute {
                        ifindex = Some(*index);
                    } else if let RouteAttribute::Gateway(hop) = attribute {
                        gateway = hop_address(hop);
                    }
                }
                if let Some(ifindex) = ifindex {
                    let known = matches!(
                        header.address_family,
                        AddressFamily::Inet | AddressFamily::Inet6
                    );
                    if known {
                        routes.push(Route { ifindex, gateway });
                    }
                }
            }
        }
        Ok(routes)
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
