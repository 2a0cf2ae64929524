//! Links to the TCX hooks.

use std::path::Path;

use anyhow::Result;
use aya::programs::{
    SchedClassifier, TcAttachType,
    links::{FdLink, LinkOrder, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
};

use crate::kernel::{
    link::{Found, Link, Place},
    pins,
};

/// The kernel's word for such links.
const KIND: &str = "tcx";

/// What a pinned link is.
///
/// # Errors
/// When it is none of ours.
pub(super) fn examine(found: &Found<'_>, ifindex: u32) -> Result<Link> {
    found.link(KIND, Place::Interface(ifindex))
}

/// Attaches a program after those that are there, and pins the link.
pub(super) fn attach(
    program: &mut SchedClassifier,
    direction: TcAttachType,
    interface: &str,
    pin: &Path,
) -> Result<()> {
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(interface, direction, options)?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(pin)?;
    pins::make_private(pin)?;
    Ok(())
}

/// Puts another program behind a pinned link: no packet sees neither.
pub(super) fn swap(program: &mut SchedClassifier, pin: &Path) -> Result<()> {
    let link = FdLink::from(PinnedLink::from_pin(pin)?);
    let id = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
    // The pin goes on holding the link; this descriptor is not needed.
    drop(program.take_link(id)?);
    Ok(())
}
