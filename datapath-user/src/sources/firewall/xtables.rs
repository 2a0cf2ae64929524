//! The tables of legacy iptables and ip6tables, by the socket options that the tools themselves use.
//!
//! Only tables that exist are asked about: asking for another would make the kernel create it. Layouts:
//! include/uapi/linux/netfilter_ipv4/ip_tables.h and its IPv6 fellow.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{PASSED, PREROUTING};

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`.
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
/// Bytes of a table's name.
const NAME: usize = 32;
/// Bytes of `struct ipt_get_entries` before its entries.
const ENTRIES: usize = 40;
/// Bytes of `struct xt_entry_target` before a standard target's verdict.
const TARGET: usize = 32;
/// `-NF_ACCEPT - 1`.
const ACCEPT: i32 = -2;

/// `struct ipt_getinfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Info {
    name: [u8; NAME],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    num_entries: u32,
    size: u32,
}

/// What tells that a table was changed, nearly always: a rule more or less, and where they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    family: &'static str,
    info: Info,
    policies: Vec<Option<i32>>,
}

struct Family {
    tool: &'static str,
    names: &'static str,
    domain: AddressFamily,
    level: i32,
    /// Where `target_offset` stands in an entry.
    target_offset: usize,
}

const FAMILIES: [Family; 2] = [
    Family {
        tool: "iptables",
        names: "/proc/thread-self/net/ip_tables_names",
        domain: AddressFamily::Inet,
        level: libc::SOL_IP,
        target_offset: 88,
    },
    Family {
        tool: "ip6tables",
        names: "/proc/thread-self/net/ip6_tables_names",
        domain: AddressFamily::Inet6,
        level: libc::SOL_IPV6,
        target_offset: 140,
    },
];

/// All tables that exist. One that cannot be read is left out: [`obstacle`] says so.
pub(super) fn summaries() -> Vec<Summary> {
    let mut all = Vec::new();
    for family in &FAMILIES {
        for table in tables(family) {
            if let Ok(summary) = summary(family, &table) {
                all.push(summary);
            }
        }
    }
    all
}

/// The first table with rules, or with a policy other than accept, where a forwarded packet passes.
pub(super) fn obstacle() -> io::Result<Option<String>> {
    for family in &FAMILIES {
        for table in tables(family) {
            let summary = summary(family, &table)?;
            if summary.stands_in_the_way() {
                return Ok(Some(format!("{} table {table}", family.tool)));
            }
        }
    }
    Ok(None)
}

/// Whether a table for NAT has rules for what arrives.
pub(super) fn translates() -> bool {
    FAMILIES.iter().any(|family| {
        let nat = tables(family).into_iter().filter(|table| table == "nat");
        nat.filter_map(|table| summary(family, &table).ok())
            .any(|table| table.has_rules(PREROUTING as usize))
    })
}

impl Summary {
    fn has_rules(&self, hook: usize) -> bool {
        let valid = self.info.valid_hooks & (1 << hook) != 0;
        valid && self.info.hook_entry.get(hook) != self.info.underflow.get(hook)
    }

    fn stands_in_the_way(&self) -> bool {
        PASSED.iter().map(|hook| *hook as usize).any(|hook| {
            let valid = self.info.valid_hooks & (1 << hook) != 0;
            let open = self.policies.get(hook) == Some(&Some(ACCEPT));
            self.has_rules(hook) || valid && !open
        })
    }
}

fn tables(family: &Family) -> Vec<String> {
    let names = fs::read_to_string(family.names).unwrap_or_default();
    names.lines().map(str::to_owned).collect()
}

fn summary(family: &Family, table: &str) -> io::Result<Summary> {
    // Of datagrams: a raw one, which the tools use, would need another capability.
    let socket = socket(
        family.domain,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut name = [0; NAME];
    for (place, byte) in name.iter_mut().take(NAME - 1).zip(table.bytes()) {
        *place = byte;
    }
    let mut bytes = name.to_vec();
    bytes.resize(size_of::<Info>(), 0);
    ask(&socket, family.level, GET_INFO, &mut bytes)?;
    // SAFETY: as many bytes as it has, and any are a value.
    let info = unsafe { bytes.as_ptr().cast::<Info>().read_unaligned() };
    let mut bytes = name.to_vec();
    bytes.extend(info.size.to_ne_bytes());
    bytes.resize(ENTRIES + info.size as usize, 0);
    ask(&socket, family.level, GET_ENTRIES, &mut bytes)?;
    let entries = bytes.get(ENTRIES..).unwrap_or_default();
    let policies = info
        .underflow
        .iter()
        .map(|entry| policy(entries, *entry as usize, family.target_offset))
        .collect();
    Ok(Summary {
        family: family.tool,
        info,
        policies,
    })
}

/// The verdict of the entry that ends a chain.
fn policy(entries: &[u8], entry: usize, target_offset: usize) -> Option<i32> {
    let entry = entries.get(entry..)?;
    let at = entry.get(target_offset..target_offset + 2)?;
    let target = usize::from(u16::from_ne_bytes(at.try_into().ok()?)) + TARGET;
    let verdict = entry.get(target..target + 4)?;
    Some(i32::from_ne_bytes(verdict.try_into().ok()?))
}

fn ask(socket: &OwnedFd, level: i32, option: i32, bytes: &mut [u8]) -> io::Result<()> {
    let mut length = bytes.len() as libc::socklen_t;
    // SAFETY: the kernel reads and writes `length` bytes there at the most.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
