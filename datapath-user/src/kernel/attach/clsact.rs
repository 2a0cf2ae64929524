//! Filters of the queueing discipline clsact, for kernels without TCX: one for each program, under a priority and a handle
//! of ours, by which the kernel replaces it in one step.
//!
//! A filter outlives whoever made it, as a pinned link does, and has no pin. What is pinned in a link's place is the
//! program: the name says what is attached where. It comes before the filter and goes after it.

use std::{fs, io, mem::ManuallyDrop, path::Path};

use anyhow::{Context as _, Result, bail};
use aya::programs::{
    SchedClassifier, TcAttachType, TcHandle,
    links::Link as _,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, qdisc_add_clsact},
};
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{self, TcAttribute, TcFilterBpfOption, TcMessage, TcOption},
};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::Hook;
use crate::kernel::{
    interface,
    link::{self, Link},
    netlink, pins,
};

/// Where our filter stands among those of others: a number that nobody takes by chance ("dp").
const PRIORITY: u16 = 0x6470;
const HANDLE: u32 = 1;

/// A filter on an interface.
struct Filter {
    priority: u16,
    handle: u32,
    /// Its program's name, and id. Those of other kinds have neither.
    name: String,
    program: u32,
}

/// Whether our filter is there, whose program is pinned.
///
/// # Errors
/// When another program is pinned, another filter has its place, or the kernel does not say.
pub(super) fn examine(pin: &Path, program: &str, ifindex: u32) -> Result<Link> {
    link::require_program(pin, program)?;
    look(program, ifindex)
}

fn look(program: &str, ifindex: u32) -> Result<Link> {
    let filters = filters(super::direction(program), ifindex)?;
    let mut ours = filters
        .into_iter()
        .filter(|filter| filter.priority == PRIORITY && filter.handle == HANDLE);
    match ours.next() {
        None => Ok(Link::Dead),
        Some(filter) if filter.name == program => Ok(Link::Attached {
            program: filter.program,
        }),
        Some(filter) => bail!(
            "{}: filter {PRIORITY} of clsact is somebody else's ({:?}), and {program} belongs there; take it off with \
             `tc filter del`",
            interface::name_or_number(ifindex),
            filter.name,
        ),
    }
}

/// Pins a program and attaches it. One that a former service left there without its pin is replaced.
pub(super) fn attach(
    program: &mut SchedClassifier,
    hook: &Hook,
    direction: TcAttachType,
    pin: &Path,
) -> Result<()> {
    match qdisc_add_clsact(&hook.interface) {
        // It is ours to take away.
        Ok(()) => place(program, &pin.with_file_name(marker(hook.ifindex)))?,
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(error).context("clsact"),
    }
    place(program, pin)?;
    if let Link::Attached { .. } = look(hook.program, hook.ifindex)? {
        return replace(program, direction, &hook.interface);
    }
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: PRIORITY,
        handle: HANDLE.into(),
        classid: None,
    });
    let id = program.attach_with_options(&hook.interface, direction, options);
    if id.is_err() {
        drop(fs::remove_file(pin));
    }
    // When dropped it would be taken off.
    let _stays = ManuallyDrop::new(program.take_link(id?)?);
    Ok(())
}

/// Puts another program in the filter's place: no packet sees neither.
pub(super) fn swap(
    program: &mut SchedClassifier,
    direction: TcAttachType,
    ifindex: u32,
    pin: &Path,
) -> Result<()> {
    replace(program, direction, &there_is(ifindex)?)?;
    place(program, pin)
}

/// The interface's name, by which filters go. One that has gone since is nobody's fault, and no other may stand in.
fn there_is(ifindex: u32) -> Result<String> {
    interface::name(ifindex).with_context(|| format!("interface {ifindex} is gone"))
}

fn replace(program: &mut SchedClassifier, direction: TcAttachType, interface: &str) -> Result<()> {
    let id = program.attach_to_link(filter(direction, interface)?)?;
    let _stays = ManuallyDrop::new(program.take_link(id)?);
    Ok(())
}

/// Takes our filter off, if it is `there`, and clsact where it came with us and nobody else has a filter. The pin is the
/// caller's.
pub(super) fn take_off(
    there: bool,
    direction: TcAttachType,
    ifindex: u32,
    pin: &Path,
) -> Result<()> {
    if there {
        let filter = filter(direction, &there_is(ifindex)?)?;
        filter.detach().context("clsact: the filter")?;
    }
    let marker = pin.with_file_name(marker(ifindex));
    let both = [TcAttachType::Ingress, TcAttachType::Egress];
    if marker.exists()
        && both
            .into_iter()
            .all(|direction| filters(direction, ifindex).is_ok_and(|all| all.is_empty()))
    {
        let mut message = TcMessage::with_index(ifindex.cast_signed());
        message.header.parent = tc::TcHandle::CLSACT;
        message.header.handle = tc::TcHandle::from(0xffff_0000);
        // With its interface it went by itself.
        drop(ask(
            RouteNetlinkMessage::DelQueueDiscipline(message),
            NLM_F_ACK,
        ));
        fs::remove_file(&marker).with_context(|| format!("link {}", marker.display()))?;
    }
    Ok(())
}

/// The filters that are not ours, by their programs' names.
pub(super) fn others(ifindex: u32) -> Vec<String> {
    let both = [TcAttachType::Ingress, TcAttachType::Egress];
    both.into_iter()
        .filter_map(|direction| filters(direction, ifindex).ok())
        .flatten()
        .filter(|filter| (filter.priority, filter.handle) != (PRIORITY, HANDLE))
        .map(|filter| filter.name)
        .collect()
}

/// The name of the pin that says that clsact was made here.
fn marker(ifindex: u32) -> String {
    format!("clsact-{ifindex}")
}

/// Pins a program in one step, in the place of another.
fn place(program: &mut SchedClassifier, pin: &Path) -> Result<()> {
    pins::put(pin, |fresh| Ok(program.pin(fresh)?))
}

fn filter(direction: TcAttachType, interface: &str) -> io::Result<SchedClassifierLink> {
    let handle = TcHandle::from(HANDLE);
    SchedClassifierLink::attached(interface, direction, PRIORITY, handle, None)
}

/// The filters of clsact on an interface of this thread's network namespace: none where there is no clsact.
fn filters(direction: TcAttachType, ifindex: u32) -> Result<Vec<Filter>> {
    let minor = if matches!(direction, TcAttachType::Egress) {
        tc::TcHandle::MIN_EGRESS
    } else {
        tc::TcHandle::MIN_INGRESS
    };
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = tc::TcHandle {
        minor,
        ..tc::TcHandle::CLSACT
    };
    let answers = ask(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP);
    let filters = answers.context("clsact: the filters")?;
    Ok(filters.into_iter().filter_map(read).collect())
}

/// `None` for what is no filter, but the head of a list of them.
fn read(message: RouteNetlinkMessage) -> Option<Filter> {
    let RouteNetlinkMessage::NewTrafficFilter(message) = message else {
        return None;
    };
    let mut filter = Filter {
        priority: (message.header.info >> 16) as u16,
        handle: message.header.handle.into(),
        name: String::new(),
        program: 0,
    };
    for attribute in message.attributes {
        let TcAttribute::Options(options) = attribute else {
            continue;
        };
        for option in options {
            if let TcOption::Bpf(TcFilterBpfOption::ProgName(name)) = option {
                filter.name = name;
            } else if let TcOption::Bpf(TcFilterBpfOption::ProgId(id)) = option {
                filter.program = id;
            }
        }
    }
    (filter.handle != 0).then_some(filter)
}

/// Everything that the kernel answers.
fn ask(request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    netlink::ask(&netlink::connect(NETLINK_ROUTE)?, request.into(), flags)
}
