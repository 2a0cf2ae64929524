//! A host whose programs are run on single frames, by the kernel that loaded them (`BPF_PROG_TEST_RUN`).

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
    path::Path,
};

use aya::{
    maps::{Map, MapData, MapInfo, PerCpuArray},
    programs::{ProgramFd, loaded_programs},
};
use datapath_common::reason::{Reason, ReasonCount};
use datapath_tests::lab::{self, Datapath, Lab, PORTS};
use nix::net::if_::if_nametoindex;

use crate::{
    case::{Case, DROP, XDP_DROP, XDP_PASS, explain},
    test_run::{test_run, test_run_xdp},
};

/// What both families' test addresses are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net {
    /// A container.
    pub(crate) endpoint: IpAddr,
    /// Its neighbour.
    pub(crate) neighbour: IpAddr,
    /// The host, outside.
    pub(crate) host: IpAddr,
    /// Somebody outside.
    pub(crate) world: IpAddr,
    /// Somebody else there.
    pub(crate) other: IpAddr,
}

/// IPv4 and IPv6, for tests of what holds in both.
pub(crate) fn nets() -> [Net; 2] {
    let net = |[endpoint, neighbour, host, world, other]: [&str; 5]| Net {
        endpoint: endpoint.parse().expect("an address"),
        neighbour: neighbour.parse().expect("an address"),
        host: host.parse().expect("an address"),
        world: world.parse().expect("an address"),
        other: other.parse().expect("an address"),
    };
    [
        net([
            "172.17.0.2",
            "172.17.0.3",
            "203.0.113.2",
            "203.0.113.9",
            "198.51.100.7",
        ]),
        net([
            "fd00:17::2",
            "fd00:17::3",
            "2001:db8::2",
            "2001:db8::9",
            "2001:db8:7::7",
        ]),
    ]
}

impl Net {
    pub(crate) fn endpoint(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.endpoint, port)
    }

    pub(crate) fn neighbour(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.neighbour, port)
    }

    pub(crate) fn host(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host, port)
    }

    pub(crate) fn world(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.world, port)
    }

    pub(crate) fn other(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.other, port)
    }
}

/// Where a frame is when a program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    /// It came from outside. The program at the driver's level has it first, and what that one refuses the other has
    /// to refuse as well.
    Arrives,
    /// It came from outside, at the driver's level.
    Driver,
    /// It came from outside, past the driver's level.
    Stack,
    /// It is about to go outside.
    Leaves,
    /// It came from an endpoint through the bridge.
    Bridge,
    /// An endpoint sent it, and its bridge does not have it yet.
    Port,
}

impl Hook {
    const ALL: [Self; 6] = [
        Self::Arrives,
        Self::Driver,
        Self::Stack,
        Self::Leaves,
        Self::Bridge,
        Self::Port,
    ];

    const fn program(self) -> &'static str {
        match self {
            Self::Arrives | Self::Stack => "uplink_ingress",
            Self::Driver => "uplink_xdp",
            Self::Leaves => "uplink_egress",
            Self::Bridge => "bridge_ingress",
            Self::Port => "veth_ingress",
        }
    }

    const fn interface(self) -> &'static str {
        match self {
            Self::Arrives | Self::Driver | Self::Stack | Self::Leaves => "eth0",
            Self::Bridge => "docker0",
            Self::Port => "vc",
        }
    }
}

/// What a program made of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// The action.
    pub(crate) verdict: i32,
    /// The frame afterwards.
    pub(crate) frame: Vec<u8>,
    /// How many programs came to that verdict, and so counted it.
    pub(crate) programs: u64,
}

/// A program, and the interface that it is attached to.
#[derive(Debug)]
struct Loaded {
    program: ProgramFd,
    ifindex: u32,
}

/// The host.
pub(crate) struct Host {
    programs: BTreeMap<Hook, Loaded>,
    reasons: PerCpuArray<MapData, ReasonCount>,
    pub(crate) datapath: Datapath,
    pub(crate) lab: Lab,
}

impl Host {
    /// One that translates, and lets its stack forward.
    pub(crate) fn new() -> Self {
        Self::with("forwarding = \"kernel\"", "")
    }

    /// One with `keys` at the top of its configuration, and `tables` at its end.
    pub(crate) fn with(keys: &str, tables: &str) -> Self {
        Self::on(Lab::new(), keys, tables)
    }

    /// One in this lab.
    pub(crate) fn on(lab: Lab, keys: &str, tables: &str) -> Self {
        lab.add_ipv6();
        for interface in ["eth0", "docker0"] {
            lab.host
                .ip(&format!("link set {interface} address 02:00:00:00:00:01"));
        }
        // With frames taken there, what the program at the driver's level does is all that it could do.
        lab::run(
            lab.container
                .command("ethtool")
                .args(["-K", "eth0", "gro", "on"]),
        );
        let keys = format!("xdp = \"native\"\n{keys}");
        let datapath = Datapath::start_with(&lab, &keys, &format!("{PORTS}{tables}"));
        let reasons = datapath.maps().join("REASONS");
        Self {
            programs: lab.host.enter(|| programs(&reasons)),
            reasons: Map::PerCpuArray(MapData::from_pin(reasons).expect("the counters"))
                .try_into()
                .expect("an array"),
            datapath,
            lab,
        }
    }

    /// A frame at a hook, of which something is to be said.
    pub(crate) fn case(&self, says: &str, hook: Hook, frame: impl Into<Vec<u8>>) -> Case<'_> {
        Case::new(self, says, hook, frame.into())
    }

    /// Runs the hook's program on a frame.
    pub(crate) fn run(&self, hook: Hook, frame: Vec<u8>) -> Ran {
        self.lab.host.enter(|| self.run_here(hook, &frame))
    }

    /// Runs it on many, in order.
    pub(crate) fn run_all(&self, frames: Vec<(Hook, Vec<u8>)>) -> Vec<Ran> {
        let frames = frames.iter();
        self.lab.host.enter(|| {
            frames
                .map(|(hook, frame)| self.run_here(*hook, frame))
                .collect()
        })
    }

    /// Runs it, on a thread that is in the host's namespace already.
    pub(crate) fn run_here(&self, hook: Hook, frame: &[u8]) -> Ran {
        let early = (hook == Hook::Arrives).then(|| self.run_one(Hook::Driver, frame));
        let mut ran = self.run_one(hook, frame);
        if let Some(early) = early {
            assert_eq!(early.frame, frame, "changed at the driver's level");
            if early.verdict != XDP_PASS {
                assert_eq!(
                    (early.verdict, ran.verdict),
                    (XDP_DROP, DROP),
                    "{}",
                    explain(frame)
                );
                ran.programs = 2;
            }
        }
        ran
    }

    /// Runs the hook's program on a frame, as if it were attached to another interface.
    pub(crate) fn run_at(&self, interface: &'static str, hook: Hook, frame: &[u8]) -> Ran {
        self.lab.host.enter(|| {
            let ifindex = if_nametoindex(interface).expect("the interface");
            self.run_on(hook, ifindex, frame)
        })
    }

    fn run_one(&self, hook: Hook, frame: &[u8]) -> Ran {
        self.run_on(hook, self.programs[&hook].ifindex, frame)
    }

    fn run_on(&self, hook: Hook, ifindex: u32, frame: &[u8]) -> Ran {
        let program = self.programs[&hook].program.as_fd();
        let ran = if hook == Hook::Driver {
            test_run_xdp(program, ifindex, frame)
        } else {
            test_run(program, ifindex, frame)
        };
        match ran {
            Ok((verdict, frame)) => Ran {
                verdict,
                frame,
                programs: 1,
            },
            Err(error) => panic!("{hook:?}: {error}: {}", explain(frame)),
        }
    }

    /// How often each reason was counted.
    pub(crate) fn reasons(&self) -> BTreeMap<Reason, u64> {
        let count = |reason: &Reason| {
            let counts = self.reasons.get(&(*reason as u32), 0).expect("a counter");
            (*reason, counts.iter().map(|count| count.packets).sum())
        };
        Reason::ALL.iter().map(count).collect()
    }
}

/// Finds the programs by the map that they count in, which no other service's programs share.
fn programs(reasons: &Path) -> BTreeMap<Hook, Loaded> {
    let map = MapInfo::from_pin(reasons).expect("the counters").id();
    let mut found = BTreeMap::new();
    for info in loaded_programs() {
        // Another test's program may go while it is looked at.
        let Ok(info) = info else { continue };
        let Ok(Some(maps)) = info.map_ids() else {
            continue;
        };
        if !maps.contains(&map) {
            continue;
        }
        for hook in Hook::ALL {
            if info.name_as_str() == Some(hook.program()) {
                let loaded = Loaded {
                    program: info.fd().expect("a program of ours"),
                    ifindex: if_nametoindex(hook.interface()).expect("the interface"),
                };
                found.insert(hook, loaded);
            }
        }
    }
    assert_eq!(found.len(), Hook::ALL.len(), "{found:?}");
    found
}
