//! Where frames that are measured end: a program at the device that they arrive at looks at each, counts those that are
//! as they should be, and drops all of them. That costs the same for everyone, and little: what everybody pays alike
//! hides what they differ in.

use std::{io, net::Ipv4Addr, os::fd::OwnedFd};

use super::bpf::{self, Code, Kind};

/// Where a frame's parts stand: the kind, IPv4's header, its protocol, source and destination, and UDP's destination.
const ETHERTYPE: i16 = 12;
const HEADER: i16 = 14;
const PROTOCOL: i16 = 23;
const SOURCE: i16 = 26;
const DESTINATION: i16 = 30;
const PORT: i16 = 36;
/// Bytes up to the end of UDP's header.
const LENGTH: i32 = 42;
/// `TC_ACT_UNSPEC`, which is `TCX_NEXT`, and `TC_ACT_SHOT`.
const GO_ON: i32 = -1;
const SHOT: i32 = 2;

/// How frames look when they have arrived as they should.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrives {
    /// The source's first so many bits.
    pub(super) source: (Ipv4Addr, u8),
    pub(super) destination: Ipv4Addr,
    /// The destination's port.
    pub(super) port: u16,
}

/// A sink at an interface, until it is dropped.
#[derive(Debug)]
pub(super) struct Sink {
    arrived: OwnedFd,
    _program: OwnedFd,
}

impl Sink {
    /// Opens it at an interface of the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses: it needs TCX (Linux 6.6).
    pub(super) fn open(ifindex: u32, arrives: Arrives) -> io::Result<Self> {
        let arrived = bpf::create(bpf::ARRAY, size_of::<u64>())?;
        let program = bpf::load(Kind::Classifier, &program(&arrived, arrives), false)?;
        Ok(Self {
            _program: bpf::attach_tcx(&program, ifindex, false, true)?,
            arrived,
        })
    }

    /// How many frames arrived as they should.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn arrived(&self) -> io::Result<u64> {
        bpf::lookup(&self.arrived)
    }
}

/// Whatever is no UDP over IPv4 goes on; of that, what is as it should be is counted, and all is dropped.
fn program(arrived: &OwnedFd, arrives: Arrives) -> Code {
    let (source, bits) = arrives.source;
    let prefix = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    let mut code = Code::default();
    // r2 = data, r3 = data_end; what is too short goes on.
    code.add(0x61, 2, 1, 76, 0);
    code.add(0x61, 3, 1, 80, 0);
    code.add(0xbf, 4, 2, 0, 0);
    code.add(0x07, 4, 0, 0, LENGTH);
    code.add(0xbd, 4, 3, 2, 0);
    code.end(GO_ON);
    // r0 = a part of the frame; another than it should be ends here.
    code.add(0x69, 0, 2, ETHERTYPE, 0);
    code.unless(0, i32::from(0x0800_u16.to_be()), GO_ON);
    code.add(0x71, 0, 2, PROTOCOL, 0);
    code.unless(0, i32::from(libc::IPPROTO_UDP as u8), GO_ON);
    code.add(0x61, 0, 2, SOURCE, 0);
    code.add(0x54, 0, 0, 0, prefix.to_be().cast_signed());
    code.unless(0, (u32::from(source) & prefix).to_be().cast_signed(), SHOT);
    code.add(0x61, 0, 2, DESTINATION, 0);
    code.unless(
        0,
        u32::from(arrives.destination).to_be().cast_signed(),
        SHOT,
    );
    code.add(0x69, 0, 2, PORT, 0);
    code.unless(0, i32::from(arrives.port.to_be()), SHOT);
    // r0 = the sum of IPv4's header (RFC 1071), of which all bits are set where its checksum is right.
    code.add(0xb7, 0, 0, 0, 0);
    for offset in (HEADER..HEADER + 20).step_by(4) {
        code.add(0x61, 3, 2, offset, 0);
        code.add(0x0f, 0, 3, 0, 0);
    }
    for bits in [32, 16, 16] {
        // r0 = what is above + what is below.
        code.add(0xbf, 3, 0, 0, 0);
        code.add(0x77, 3, 0, 0, bits);
        code.add(0x67, 0, 0, 0, 64 - bits);
        code.add(0x77, 0, 0, 0, 64 - bits);
        code.add(0x0f, 0, 3, 0, 0);
    }
    code.unless(0, 0xffff, SHOT);
    // One more.
    code.load_map(5, arrived, true);
    code.add(0x79, 0, 5, 0, 0);
    code.add(0x07, 0, 0, 0, 1);
    code.add(0x7b, 5, 0, 0, 0);
    code.end(SHOT);
    code
}
