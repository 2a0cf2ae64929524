//! The addresses that masquerade may use on an uplink.

use crate::family::{Address as _, Family};

/// How many addresses of one uplink masquerade chooses among.
pub const MAX_ADDRESSES: usize = 8;

/// One address of an uplink.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UplinkAddress<F: Family> {
    /// The address itself.
    pub addr: F::Addr,
    /// Bits of its on-link prefix.
    pub prefix: u32,
    /// Index of its generation (the same as in its [`crate::network::LocalAddress`]).
    pub slot: u32,
}

/// An uplink's addresses, the one to use by default first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UplinkAddresses<F: Family> {
    /// How many of `addrs` are set.
    pub count: u32,
    /// The addresses; those from `count` on are zero.
    pub addrs: [UplinkAddress<F>; MAX_ADDRESSES],
}

impl<F: Family> UplinkAddress<F> {
    /// An unused place.
    pub const NONE: Self = Self {
        addr: F::Addr::UNSPECIFIED,
        prefix: 0,
        slot: 0,
    };
}

impl<F: Family> UplinkAddresses<F> {
    /// The source for a packet to `dst`, as the kernel's `inet_select_addr` would choose it: the first
    /// address that has `dst` on its link, else the default one.
    #[must_use]
    #[inline(always)]
    pub fn source_for(&self, dst: &F::Addr) -> Option<&UplinkAddress<F>> {
        let count = self.count as usize;
        if count == 0 {
            return None;
        }
        for (index, address) in self.addrs.iter().enumerate() {
            if index < count && address.addr.same_prefix(dst, address.prefix) {
                return Some(address);
            }
        }
        self.addrs.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Addr4, V4};

    fn uplink(addrs: &[([u8; 4], u32)]) -> UplinkAddresses<V4> {
        let mut uplink = UplinkAddresses {
            count: addrs.len() as u32,
            addrs: [UplinkAddress::NONE; MAX_ADDRESSES],
        };
        for (place, (addr, prefix)) in uplink.addrs.iter_mut().zip(addrs) {
            place.addr = Addr4(*addr);
            place.prefix = *prefix;
        }
        uplink
    }

    #[test]
    fn the_address_on_the_link_is_preferred() {
        let uplink = uplink(&[([203, 0, 113, 2], 24), ([192, 0, 2, 2], 24)]);
        for (dst, expected) in [
            ([198, 51, 100, 9], [203, 0, 113, 2]),
            ([203, 0, 113, 9], [203, 0, 113, 2]),
            ([192, 0, 2, 9], [192, 0, 2, 2]),
        ] {
            let source = uplink.source_for(&Addr4(dst)).unwrap();
            assert_eq!(source.addr, Addr4(expected), "to {dst:?}");
        }
    }

    #[test]
    fn an_uplink_without_address_gives_none() {
        assert!(uplink(&[]).source_for(&Addr4([192, 0, 2, 1])).is_none());
    }
}
