//! Which interfaces take part in XDP, by the kernel's own word: the generic netlink family `netdev` (Linux 6.3).
//!
//! Whether a veth interface takes frames depends on its peer, in another network namespace, and may change at any
//! time: the kernel tells of it here, and nowhere else.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_DUMP, NetlinkDeserializable, NetlinkSerializable, NlasIterator,
    ParseableParametrized, parse_u32, parse_u64,
};
use netlink_packet_generic::{
    GenlFamily, GenlHeader, GenlMessage,
    ctrl::{
        GenlCtrl, GenlCtrlCmd,
        nlas::{GenlCtrlAttrs, McastGrpAttrs},
    },
};
use netlink_sys::{
    AsyncSocket as _, AsyncSocketExt as _, Socket, TokioSocket, protocols::NETLINK_GENERIC,
};
use tokio::sync::mpsc;

use super::Frames;
use crate::kernel::netlink;

const FAMILY: &str = "netdev";
/// The family's multicast group: what interfaces can do has changed.
const GROUP: &str = "mgmt";

/// `NETDEV_CMD_DEV_GET`, `NETDEV_A_DEV_IFINDEX` and `NETDEV_A_DEV_XDP_FEATURES` of include/uapi/linux/netdev.h.
const DEV_GET: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;

/// `enum netdev_xdp_act`: it runs programs and lets them redirect; it takes frames from others.
const RUNS: u64 = 1 | 2;
const TAKES: u64 = 4;

/// What the kernel says of an interface. A request says nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Device {
    ifindex: u32,
    features: u64,
}

impl GenlFamily for Device {
    fn family_name() -> &'static str {
        FAMILY
    }

    fn command(&self) -> u8 {
        DEV_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Device {
    fn buffer_len(&self) -> usize {
        0
    }

    fn emit(&self, _: &mut [u8]) {}
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(buffer: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let mut device = Self::default();
        for attribute in NlasIterator::new(buffer) {
            let attribute = attribute?;
            match attribute.kind() {
                IFINDEX => device.ifindex = parse_u32(attribute.value())?,
                XDP_FEATURES => device.features = parse_u64(attribute.value())?,
                _ => {}
            }
        }
        Ok(device)
    }
}

/// What the interfaces of the calling thread's network namespace can do, by index.
///
/// # Errors
/// When the kernel does not know the family (Linux before 6.3), or refuses.
pub(super) fn dump() -> Result<BTreeMap<u32, Frames>> {
    let socket = netlink::connect(NETLINK_GENERIC)?;
    let (family, _) = family(&socket)?;
    let devices: Vec<Device> = ask(&socket, Device::default(), family)?;
    let frames = |device: &Device| Frames {
        runs: device.features & RUNS == RUNS,
        takes: device.features & TAKES != 0,
    };
    Ok(devices
        .iter()
        .map(|device| (device.ifindex, frames(device)))
        .collect())
}

/// Wakes whoever waits at the other end whenever that may have changed.
///
/// # Errors
/// As [`dump`].
pub(super) fn watch(wake: mpsc::Sender<()>) -> Result<()> {
    let (_, group) = family(&netlink::connect(NETLINK_GENERIC)?)?;
    let group = group.context("netdev: the kernel tells of no changes")?;
    let mut socket = TokioSocket::new(NETLINK_GENERIC)?;
    socket.socket_mut().bind_auto()?;
    socket.socket_mut().add_membership(group)?;
    tokio::spawn(async move {
        while heard(&socket).await {
            if let Err(mpsc::error::TrySendError::Closed(())) = wake.try_send(()) {
                return;
            }
        }
    });
    Ok(())
}

/// Waits for news. Some that were lost (`ENOBUFS`) say no less than others: something changed.
async fn heard(socket: &TokioSocket) -> bool {
    match socket.recv_from_full().await {
        Ok(_) => true,
        Err(error) => error.raw_os_error() == Some(libc::ENOBUFS),
    }
}

/// The family's number, and its group's.
fn family(socket: &Socket) -> Result<(u16, Option<u32>)> {
    let request = GenlCtrl {
        cmd: GenlCtrlCmd::GetFamily,
        nlas: Vec::new(),
    };
    let (mut number, mut group) = (None, None);
    for family in ask(socket, request, libc::GENL_ID_CTRL as u16)? {
        let ours = GenlCtrlAttrs::FamilyName(FAMILY.to_owned());
        if !family.nlas.contains(&ours) {
            continue;
        }
        for attribute in family.nlas {
            if let GenlCtrlAttrs::FamilyId(id) = attribute {
                number = Some(id);
            } else if let GenlCtrlAttrs::McastGroups(groups) = attribute {
                group = groups.into_iter().find_map(group_id);
            }
        }
    }
    let number = number.context("netdev: the kernel has no such family (Linux before 6.3)")?;
    Ok((number, group))
}

fn group_id(attributes: Vec<McastGrpAttrs>) -> Option<u32> {
    if !attributes.contains(&McastGrpAttrs::Name(GROUP.to_owned())) {
        return None;
    }
    attributes
        .into_iter()
        .find_map(|attribute| match attribute {
            McastGrpAttrs::Id(id) => Some(id),
            McastGrpAttrs::Name(_) => None,
        })
}

/// Everything that the kernel answers.
fn ask<T>(socket: &Socket, request: T, family: u16) -> Result<Vec<T>>
where
    T: GenlFamily + std::fmt::Debug,
    GenlMessage<T>: NetlinkSerializable + NetlinkDeserializable,
{
    let mut request = GenlMessage::from_payload(request);
    request.set_resolved_family_id(family);
    let answers = netlink::ask(socket, request.into(), NLM_F_DUMP)?;
    Ok(answers.into_iter().map(|answer| answer.payload).collect())
}
