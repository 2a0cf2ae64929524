//! Frames as `explain` reads them, and headers from one family to the other and back.
#![no_main]

use datapath_common::{
    family::{Addr4, Addr6},
    nat64::{Header4, Header6},
    proto,
};
use datapath_user::explain::packet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    drop(packet::ends(frame));
    let Some(header) = frame.get(14..34) else {
        return;
    };
    let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let addr = |at: usize| Addr4([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let four = Header4 {
        version: header[0],
        class: header[1],
        length: word(2),
        id: word(4),
        fragment: word(6),
        hops: header[8],
        protocol: header[9],
        checksum: word(10),
        src: addr(12),
        dst: addr(16),
    };
    let six: Header6 = four.across();
    assert_eq!(six.src, Addr6::from_mapped(four.src));
    assert_eq!(u32::from_be(six.version) >> 28, 6);
    let back = six.across(7).expect("mapped addresses");
    assert_eq!(
        (back.src, back.dst, back.class, back.hops),
        (four.src, four.dst, four.class, four.hops)
    );
    // 1 and 58 are each other's only; whoever writes 58 into IPv4 has no ICMPv6 there.
    if four.protocol != proto::ICMPV6 {
        assert_eq!(back.protocol, four.protocol);
    }
    let length = u16::from_be(four.length);
    if length > 20 {
        assert_eq!(back.length, four.length);
    }
    // A right checksum: the words add up to nothing.
    let sum: u32 = back
        .words()
        .iter()
        .map(|word| (word & 0xffff) + (word >> 16))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{back:?}");
});
