//! Allow-lists: which sources a published port answers to.
//!
//! A list has a number, and its networks lie in one trie with those of all lists, under that number. A binding
//! names its list by the number, so that the ports of a range share one, and a list is changed by writing another
//! and naming that: no moment shows half a list.

use crate::family::Family;

/// How many networks all lists of a family hold together. When full, a list that has no room is refused, and so is
/// the port that it is for.
pub const MAX_ALLOWED: u32 = 65_536;

/// How many networks one list may name.
pub const MAX_LIST: usize = 1_024;

/// Bits of a list's number, which stand before the address in a key of the trie.
pub const LIST_BITS: u32 = u32::BITS;

/// The list of a port that has none: everybody may ask.
pub const EVERYBODY: u32 = 0;

/// A list that has no networks: nobody but the host itself may ask.
pub const NOBODY: u32 = u32::MAX;

/// A network of a list. In the trie the prefix is longer by [`LIST_BITS`]: the number always counts whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllowKey<F: Family> {
    /// The list's number.
    pub list: u32,
    /// The network's address.
    pub addr: F::Addr,
}
