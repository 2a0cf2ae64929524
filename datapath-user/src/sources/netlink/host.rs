//! What the host's network looks like, as plain data.

use std::net::IpAddr;

use datapath_common::way::Mac;

/// What an interface does with bare frames, before the kernel makes socket buffers of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// Its driver runs XDP programs, and lets them redirect.
    pub runs: bool,
    /// It takes frames that programs redirect to it.
    pub takes: bool,
}

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
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// It is one end of a veth pair whose other end is in another network namespace: an endpoint's port.
    pub leads_elsewhere: bool,
    /// A bridge's port that talks to no other isolated one.
    pub isolated: bool,
    /// It is a VLAN's, on this interface.
    pub vlan_of: Option<u32>,
    /// What it does with bare frames.
    pub frames: Frames,
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

/// A unicast route, of whatever table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface that it leads out of.
    pub ifindex: u32,
    /// The next hop, if there is one.
    pub gateway: Option<IpAddr>,
    /// It bounds the size of packets by more than its interface does.
    pub bounded: bool,
    /// It is one of several that packets are spread over.
    pub shared: bool,
}

/// Who has an address on a link (ARP, neighbour discovery).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The link.
    pub ifindex: u32,
    /// The address.
    pub addr: IpAddr,
    /// Who has it.
    pub mac: Mac,
}

/// Behind which of its ports a bridge saw an Ethernet address (the bridge's forwarding database).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Station {
    /// The port.
    pub port: u32,
    /// The Ethernet address.
    pub mac: Mac,
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
    /// A rule of policy routing looks at more than addresses and interfaces.
    pub fine_rules: bool,
    /// The neighbours, sorted.
    pub neighbours: Vec<Neighbour>,
    /// The bridges' stations, sorted.
    pub stations: Vec<Station>,
}

impl Host {
    /// An interface by its name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}
