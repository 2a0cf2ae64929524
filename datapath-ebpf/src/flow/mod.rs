//! Flows: found, followed, opened.
//!
//! Two tiers: what is half-open or unanswered lives in an LRU map, what is established in a map that nothing
//! evicts from, so that a flood turns over the first and never touches the second.

mod find;
pub mod limit;
mod open;
mod track;

pub use find::{Established, Known, Tier, established, find, is_current, keep_hop, living};
pub use open::{Opening, is_taken, may_open, open};
pub use track::count;
