//! XDP programs on interfaces, whoever put them there.

use std::collections::BTreeSet;

use anyhow::Result;
use futures::TryStreamExt as _;
use netlink_packet_route::link::{LinkAttribute, LinkXdp};
use rtnetlink::Handle;

/// The ids of the programs on an interface.
pub(super) async fn programs(handle: &Handle, ifindex: u32) -> Result<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    let mut links = handle.link().get().match_index(ifindex).execute();
    while let Some(link) = links.try_next().await? {
        all.extend(link.attributes.iter().flat_map(ids));
    }
    Ok(all)
}

fn ids(attribute: &LinkAttribute) -> Vec<u32> {
    let LinkAttribute::Xdp(facts) = attribute else {
        return Vec::new();
    };
    let ids = facts.iter().filter_map(|fact| {
        if let LinkXdp::ProgId(id)
        | LinkXdp::DrvProgId(id)
        | LinkXdp::SkbProgId(id)
        | LinkXdp::HwProgId(id) = fact
        {
            Some(*id)
        } else {
            None
        }
    });
    ids.filter(|id| *id != 0).collect()
}
