//! nf_tables over netlink: its generation, and the chains that packets pass.
//!
//! Message and attribute numbers: include/uapi/linux/netfilter/nf_tables.h.

use std::io;

use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

use super::{PASSED, PREROUTING};
use crate::kernel::netlink;

const SUBSYSTEM: u16 = 10 << 8;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_GENERATION: u16 = SUBSYSTEM | 16;
const NEW_GENERATION: u16 = SUBSYSTEM | 15;

const GENERATION_ID: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_USE: u16 = 6;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;

/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;
/// `NF_INET_INGRESS`: its hook of single interfaces, as `NETDEV`'s.
const INGRESS: u32 = 5;
/// `NFPROTO_ARP`: its packets are never sent on.
const ARP: u8 = 3;
/// `NFPROTO_NETDEV`: hooks of single interfaces, before all others; their numbers are others'.
const NETDEV: u8 = 5;
/// `NFPROTO_BRIDGE`: what comes from an endpoint and goes to one passes its bridge's hooks for what the bridge itself
/// takes (input) and sends (output), beside those that a forwarded packet passes.
const BRIDGE: u8 = 7;
const ACCEPT: u32 = 1;

/// Bytes of a netlink message's header, and of nf_tables' own behind it.
const HEADER: usize = 16;
const OWN_HEADER: usize = 4;

/// A socket to it.
pub(super) fn open() -> io::Result<Socket> {
    netlink::connect(NETLINK_NETFILTER)
}

/// The number that grows with every change of the rules.
pub(super) fn generation(socket: &Socket) -> Option<u32> {
    let mut id = None;
    exchange(socket, GET_GENERATION, false, |kind, _, attributes| {
        if kind == NEW_GENERATION {
            id = number(attributes, GENERATION_ID);
        }
    })
    .ok()?;
    id
}

/// What the chains of now do.
#[derive(Default)]
pub(super) struct Chains {
    /// The first with rules, or with a policy other than accept, that a forwarded packet passes.
    pub(super) obstacle: Option<String>,
    /// One for NAT has rules for what arrives.
    pub(super) translates: bool,
}

/// Looks at all of them, once.
pub(super) fn chains(socket: &Socket) -> io::Result<Chains> {
    let mut found = Chains::default();
    exchange(socket, GET_CHAIN, true, |kind, family, attributes| {
        if kind != NEW_CHAIN || family == ARP {
            return;
        }
        // Others are only jumped to.
        let Some(hook) = get(attributes, CHAIN_HOOK) else {
            return;
        };
        let hook = number(hook, HOOK_NUMBER);
        let rules = number(attributes, CHAIN_USE);
        found.translates |= family != NETDEV
            && hook == Some(PREROUTING)
            && rules.unwrap_or(0) > 0
            && text(attributes, CHAIN_TYPE) == "nat";
        let passed = matches!(family, NETDEV | BRIDGE)
            || family == INET && hook == Some(INGRESS)
            || hook.is_some_and(|number| PASSED.contains(&number));
        if !passed || found.obstacle.is_some() {
            return;
        }
        let closed = number(attributes, CHAIN_POLICY).is_some_and(|policy| policy != ACCEPT);
        if rules.unwrap_or(1) > 0 || closed {
            let table = text(attributes, CHAIN_TABLE);
            let chain = text(attributes, CHAIN_NAME);
            found.obstacle = Some(format!("nftables chain {chain} of table {table}"));
        }
    })?;
    Ok(found)
}

/// Asks, and hands every message of the answer to `each`: its type, its protocol family, its attributes.
fn exchange(
    socket: &Socket,
    kind: u16,
    dump: bool,
    mut each: impl FnMut(u16, u8, &[u8]),
) -> io::Result<()> {
    const DONE: u16 = 3;
    const ERROR: u16 = 2;
    const REQUEST: u16 = 1;
    const DUMP: u16 = 0x300;
    let length = HEADER + OWN_HEADER;
    let mut request = Vec::with_capacity(length);
    request.extend((length as u32).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((REQUEST | if dump { DUMP } else { 0 }).to_ne_bytes());
    request.resize(length, 0);
    socket.send(&request, 0)?;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while let Some(message) = take(&mut rest, 4) {
            let (Some(header), Some(body)) = (message.get(..HEADER), message.get(HEADER..)) else {
                break;
            };
            match u16::from_ne_bytes([header[4], header[5]]) {
                DONE => return Ok(()),
                ERROR => {
                    let code = body.get(..4).and_then(|code| code.try_into().ok());
                    return Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(
                        code.unwrap_or_default(),
                    )));
                }
                kind => {
                    let family = body.first().copied().unwrap_or_default();
                    each(kind, family, body.get(OWN_HEADER..).unwrap_or_default());
                }
            }
        }
        if !dump {
            return Ok(());
        }
    }
}

/// The next message (a length of 4 bytes comes first) or attribute (2 bytes), which end on multiples of four.
fn take<'a>(rest: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let length = match size {
        4 => u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize,
        _ => usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?)),
    };
    let taken = rest.get(..length).filter(|taken| taken.len() >= size)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some(taken)
}

/// The value of an attribute.
fn get(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    const NESTED: u16 = 0x8000;
    while let Some(attribute) = take(&mut attributes, 2) {
        let kind = u16::from_ne_bytes(attribute.get(2..4)?.try_into().ok()?);
        if kind & !NESTED == wanted {
            return attribute.get(4..);
        }
    }
    None
}

fn number(attributes: &[u8], wanted: u16) -> Option<u32> {
    let bytes = get(attributes, wanted)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

fn text(attributes: &[u8], wanted: u16) -> String {
    let bytes = get(attributes, wanted).unwrap_or_default();
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default())
        .escape_debug()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn attributes_are_found_behind_padding_and_inside_others() {
        let hook = attribute(HOOK_NUMBER, &2_u32.to_be_bytes());
        let mut all = attribute(CHAIN_NAME, b"forward\0");
        all.extend(attribute(CHAIN_TABLE, b"x\0"));
        all.extend(attribute(CHAIN_HOOK | 0x8000, &hook));
        assert_eq!(text(&all, CHAIN_TABLE), "x");
        assert_eq!(number(get(&all, CHAIN_HOOK).unwrap(), HOOK_NUMBER), Some(2));
        assert_eq!(number(&all, CHAIN_POLICY), None);
    }

    #[test]
    fn lengths_that_lie_end_the_search() {
        for bytes in [&[3, 0, 1, 0][..], &[0, 0, 1, 0], &[200, 0, 1, 0], &[4]] {
            assert_eq!(get(bytes, 1), None, "{bytes:?}");
        }
    }
}
