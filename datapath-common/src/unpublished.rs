//! Which ports are published nowhere, a bit each, whatever the protocol and the address: what packets from outside are
//! asked first, so that those of the host's own cost next to nothing.
//!
//! The service alone writes it. A port's bit is taken away before the port's binding is there, and comes back after
//! the binding went, so that a bit that is set is true; one that is not says nothing.

/// Words of the map's one entry.
pub const WORDS: usize = 1_024;

/// A bit for each of the 65,536 ports.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpublished {
    /// The ports in order, from the lowest bit of the first word.
    pub words: [u64; WORDS],
}

impl Unpublished {
    /// Nothing is known of any: what a map that was just made holds.
    pub const UNKNOWN: Self = Self { words: [0; WORDS] };

    /// Whether a port is known to be published nowhere.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, port: u16) -> bool {
        let (word, bit) = place(port);
        self.words[word] >> bit & 1 != 0
    }

    /// All but these.
    #[must_use]
    pub fn all_but(ports: impl IntoIterator<Item = u16>) -> Self {
        let mut all = Self {
            words: [u64::MAX; WORDS],
        };
        for port in ports {
            let (word, bit) = place(port);
            all.words[word] &= !(1 << bit);
        }
        all
    }

    /// Those that both know of.
    #[must_use]
    pub fn in_both(mut self, other: &Self) -> Self {
        for (word, mask) in self.words.iter_mut().zip(other.words) {
            *word &= mask;
        }
        self
    }
}

/// Where a port stands: the word, and the bit in it.
#[inline(always)]
const fn place(port: u16) -> (usize, u32) {
    (port as usize / 64, port as u32 % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_a_bit_of_its_own() {
        for port in 0..=u16::MAX {
            let all = Unpublished::all_but([port]);
            let missing: u32 = all.words.iter().map(|word| word.count_zeros()).sum();
            assert!(!all.has(port) && missing == 1, "{port}");
            assert!(!Unpublished::UNKNOWN.has(port), "{port}");
        }
    }

    #[test]
    fn both_have_to_know() {
        let (one, other) = (
            Unpublished::all_but([80]),
            Unpublished::all_but([443, 8080]),
        );
        let both = one.in_both(&other);
        assert_eq!(both, Unpublished::all_but([80, 443, 8080]));
        assert_eq!(both.in_both(&Unpublished::UNKNOWN), Unpublished::UNKNOWN);
    }
}
