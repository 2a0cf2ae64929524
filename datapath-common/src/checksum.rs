//! The Internet checksum, changed along with the fields that it covers (RFC 1624).
//!
//! The checksum is the complement of the ones'-complement sum of 16-bit words. When words change, it can be
//! mended from the difference alone, without reading the rest of the packet: `HC' = ~(~HC + ~m + m')`
//! (RFC 1624, eq. 3). A checksum that was wrong before is wrong by as much afterwards, so damage is never
//! laundered into a valid packet.
//!
//! Ones'-complement sums do not care for byte order (RFC 1071, 2B) as long as all words are read alike, so
//! everything here is done on words as they lie in memory.

/// What a change of words adds to a ones'-complement sum: `sum(to) - sum(from)`, folded to 32 bits.
///
/// The result is what the kernel calls a `__wsum`: `bpf_l4_csum_replace` takes it as its difference.
#[must_use]
#[inline(always)]
pub fn difference<const N: usize>(from: &[u32; N], to: &[u32; N]) -> u32 {
    let mut sum = 0u64;
    for (old, new) in from.iter().zip(to) {
        sum += u64::from(!*old) + u64::from(*new);
    }
    fold64(sum)
}

/// What words add to a ones'-complement sum.
#[must_use]
#[inline(always)]
pub fn sum<const N: usize>(words: &[u32; N]) -> u32 {
    difference(&[0; N], words)
}

/// The sum of two differences.
#[must_use]
#[inline(always)]
pub const fn add(a: u32, b: u32) -> u32 {
    fold64(a as u64 + b as u64)
}

/// The checksum after its words changed by `difference`. Both checksums are as they lie in memory.
#[must_use]
#[inline(always)]
pub const fn mend(checksum: u16, difference: u32) -> u16 {
    !fold32(add(!checksum as u32, difference))
}

/// As [`mend`], by UDP's rule: 0 means that there is none, and stays (RFC 768; over IPv6 in tunnels, RFC 6935);
/// one that becomes 0 is sent as all ones.
#[must_use]
#[inline(always)]
pub const fn mend_udp(checksum: u16, difference: u32) -> u16 {
    if checksum == 0 {
        return 0;
    }
    match mend(checksum, difference) {
        0 => 0xffff,
        mended => mended,
    }
}

/// The pseudo-header's sum as the checksum's field holds it while the rest is still to be added (the kernel's
/// `CHECKSUM_PARTIAL`). `addresses` is what both add to a sum; `length` counts from the transport's header on.
#[must_use]
#[inline(always)]
pub const fn pseudo_header(addresses: u32, protocol: u8, length: u16) -> u16 {
    let words =
        u16::from_ne_bytes([0, protocol]) as u32 + u16::from_ne_bytes(length.to_be_bytes()) as u32;
    fold32(add(addresses, words))
}

/// Whether a sum over everything that a checksum covers, itself included, says that nothing was damaged.
#[must_use]
#[inline(always)]
pub const fn is_right(sum: u32) -> bool {
    fold32(sum) == 0xffff
}

#[inline(always)]
const fn fold64(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    (sum + (sum >> 32)) as u32
}

#[inline(always)]
const fn fold32(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use etherparse::checksum::Sum16BitWords;
    use proptest::prelude::*;

    use super::*;

    fn words(bytes: &[u8; 12]) -> [u32; 3] {
        let mut words = [0; 3];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes(chunk.try_into().unwrap());
        }
        words
    }

    /// The checksum over `rest` and `part`, as it lies in memory, by an implementation that is not ours.
    fn anew(rest: &[u8; 20], part: &[u8; 12]) -> u16 {
        Sum16BitWords::new()
            .add_slice(rest)
            .add_slice(part)
            .ones_complement()
    }

    /// RFC 1624, section 4: the worked example, whose result is 0x0000 and not 0xffff.
    #[test]
    fn the_example_of_the_rfc() {
        let difference = add(!0x5555u32 & 0xffff, 0x3285);
        assert_eq!(mend(0xdd2f, difference), 0x0000);
    }

    #[test]
    fn udp_keeps_its_two_zeros() {
        assert_eq!(mend_udp(0, 0x1234), 0);
        let difference = add(!0x5555u32 & 0xffff, 0x3285);
        assert_eq!(mend_udp(0xdd2f, difference), 0xffff);
    }

    proptest! {
        /// Against an implementation that is not ours: mending gives what summing anew would.
        #[test]
        fn mending_is_summing_anew(rest: [u8; 20], from: [u8; 12], to: [u8; 12]) {
            let before = anew(&rest, &from);
            let after = mend(before, difference(&words(&from), &words(&to)));
            let summed = anew(&rest, &to);
            // Ones' complement has two zeros.
            prop_assert!(after == summed || (after ^ summed) == 0xffff && (after == 0 || summed == 0));
        }

        /// The pseudo-header's sum is what the whole checksum over nothing else is the complement of.
        #[test]
        fn the_pseudo_header_is_summed_as_others_do(src: [u8; 4], dst: [u8; 4], protocol: u8, length: u16) {
            let addresses = add(u32::from_ne_bytes(src), u32::from_ne_bytes(dst));
            let summed = Sum16BitWords::new()
                .add_4bytes(src)
                .add_4bytes(dst)
                .add_2bytes([0, protocol])
                .add_2bytes(length.to_be_bytes())
                .ones_complement();
            prop_assert_eq!(pseudo_header(addresses, protocol, length), !summed);
        }

        /// A wrong checksum stays wrong.
        #[test]
        fn damage_is_not_laundered(rest: [u8; 20], from: [u8; 12], to: [u8; 12], damage in 1u16..0xffff) {
            let good = anew(&rest, &from);
            let bad = mend(good, u32::from(damage));
            let after = mend(bad, difference(&words(&from), &words(&to)));
            let summed = anew(&rest, &to);
            prop_assert!(after != summed);
        }
    }
}
