//! Pinned maps are adopted only if they are ours: of the type and sizes that the programs were built with.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::maps::MapInfo;
use aya_obj::Object;

/// Looks at what is pinned in `dir` under the names of the object's maps.
///
/// # Errors
/// Names the first pin that is none of ours, and the remedy.
pub fn check(object: &[u8], dir: &Path) -> Result<()> {
    let object = Object::parse(object).context("the eBPF object in this program")?;
    for (name, map) in &object.maps {
        let pin = dir.join(name);
        if !pin.exists() {
            continue;
        }
        let refuse = |what: &str| {
            format!(
                "pin_dir: {}: {what}; take everything out with `datapath detach` and start the service anew",
                pin.display()
            )
        };
        let info = MapInfo::from_pin(&pin).with_context(|| refuse("not a map"))?;
        let found = (
            info.map_type().ok().map(|kind| kind as u32),
            info.key_size(),
            info.value_size(),
        );
        let ours = (Some(map.map_type()), map.key_size(), map.value_size());
        if found != ours {
            bail!(refuse("not a map of datapath's, or of another version's"));
        }
    }
    Ok(())
}
