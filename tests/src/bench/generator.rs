//! Frames as a network card's driver would hand them in, as many as one CPU can.
//!
//! An XDP program is run by the kernel itself in its mode of live frames: it writes each frame anew and passes it
//! on, so that real packets stand on an interface's receive path, and no sender's socket is paid for. It is some
//! seventy instructions, written out here: a compiler for them would be a dependency of the measuring alone.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use super::bpf::{self, Code, Kind};

/// Bytes of a frame: the smallest that a wire carries, without its checksum.
pub(super) const FRAME: usize = 60;
/// The frame in the map, filled up to whole words.
const PLACE: usize = 64;
/// How many frames one call may hand in.
const CALL: u32 = 1 << 20;
/// `XDP_ABORTED`, `XDP_DROP` and `XDP_PASS`; the helpers `bpf_tail_call` and `bpf_redirect`.
const ABORTED: i32 = 0;
const DROP: i32 = 1;
const PASS: i32 = 2;
const TAIL_CALL: i32 = 12;
const REDIRECT: i32 = 23;

/// Which address differs from one frame to the next, and with it its port: where its lower half stands in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vary {
    /// The source.
    Source = 28,
    /// The destination.
    Destination = 32,
}

impl Vary {
    /// Where the port stands.
    const fn port(self) -> i16 {
        match self {
            Self::Source => 34,
            Self::Destination => 36,
        }
    }
}

/// Where the identification stands in the frame.
pub(super) const IDENTIFICATION: usize = 18;

/// What becomes of a frame once it is written.
#[derive(Debug)]
pub(super) enum Then {
    /// The stack has it.
    Stack,
    /// This interface has it, untouched: what no XDP program can do better.
    Redirect(u32),
    /// This XDP program decides, as if the frame had come to its interface.
    Program(OwnedFd),
}

/// A generator of one frame, of which one address and port differ from one to the next.
#[derive(Debug)]
pub(super) struct Generator {
    program: OwnedFd,
    _frame: OwnedFd,
    _next: OwnedFd,
}

/// What is written into the map: the frame, then how many flows there are (a power of two) less one, then the count.
#[repr(C)]
struct State {
    frame: [u8; PLACE],
    mask: u64,
    count: u64,
}

impl Generator {
    /// Makes it. The frame has to be IPv4 and UDP without options and without UDP's checksum: the lower half of
    /// one address counts through `flows` and its port goes on with every 65536th, and the identification is the
    /// complement of that half, so that the header's checksum stays right. `flows` is a power of two, 2^20 at most.
    ///
    /// # Errors
    /// When the kernel refuses map or program.
    pub(super) fn new(frame: &[u8], vary: Vary, flows: u32, then: &Then) -> io::Result<Self> {
        assert!(
            flows.is_power_of_two() && flows <= 1 << 20,
            "{flows} flows: a power of two, 2^20 at most"
        );
        let mut state = State {
            frame: [0; PLACE],
            mask: u64::from(flows - 1),
            count: 0,
        };
        for (place, byte) in state.frame.iter_mut().zip(frame) {
            *place = *byte;
        }
        let map = bpf::create(bpf::ARRAY, size_of::<State>())?;
        bpf::update(&map, &state)?;
        let mut failed = None;
        // Whether the program that comes next knows of frames in several parts is told by nobody.
        for frags in [false, true] {
            let next = bpf::create(bpf::PROG_ARRAY, 4)?;
            let code = program(&map, &next, vary, then);
            let program = bpf::load(Kind::Xdp, &code, frags)?;
            let joined = match then {
                Then::Program(program) => bpf::update(&next, &program.as_raw_fd()),
                Then::Stack | Then::Redirect(_) => Ok(()),
            };
            match joined {
                Ok(()) => {
                    return Ok(Self {
                        program,
                        _frame: map,
                        _next: next,
                    });
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| io::Error::other("no generator")))
    }

    /// Hands in `count` frames at an interface of the calling thread's network namespace, from this CPU.
    /// Returns how long it took until the stack was done with the last.
    ///
    /// # Errors
    /// When the kernel refuses, as it does for an interface without XDP.
    pub(super) fn send(&self, ifindex: u32, count: u32) -> io::Result<Duration> {
        let start = Instant::now();
        let mut left = count;
        while left > 0 {
            let repeat = left.min(CALL);
            bpf::run_live(&self.program, ifindex, FRAME, repeat)?;
            left -= repeat;
        }
        Ok(start.elapsed())
    }
}

/// Makes an interface ready to take such frames: it must have XDP's receive queues, which a veth interface has
/// while a program is attached. Frames handed in do not pass that program.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn prepare(ifindex: u32) -> io::Result<OwnedFd> {
    bpf::let_through(ifindex)
}

/// An interface's index in the calling thread's network namespace.
///
/// # Errors
/// When there is none of that name.
pub(super) fn ifindex(interface: &str) -> io::Result<u32> {
    nix::net::if_::if_nametoindex(interface).map_err(io::Error::from)
}

/// Copies the frame, counts, writes address, port and identification, sends it on.
fn program(map: &OwnedFd, next: &OwnedFd, vary: Vary, then: &Then) -> Code {
    let mut code = Code::default();
    // r6 = the context, r2 = data, r3 = data_end; a frame too short is dropped.
    code.add(0xbf, 6, 1, 0, 0);
    code.add(0x61, 2, 1, 0, 0);
    code.add(0x61, 3, 1, 4, 0);
    code.add(0xbf, 4, 2, 0, 0);
    code.add(0x07, 4, 0, 0, FRAME as i32);
    code.add(0x3d, 3, 4, 2, 0);
    code.end(DROP);
    // r5 = the map's value.
    code.load_map(5, map, true);
    for offset in (0..FRAME as i16 - 4).step_by(8) {
        code.add(0x79, 0, 5, offset, 0);
        code.add(0x7b, 2, 0, offset, 0);
    }
    code.add(0x61, 0, 5, FRAME as i16 - 4, 0);
    code.add(0x63, 2, 0, FRAME as i16 - 4, 0);
    // r0 = count++ & mask, r7 = r0 >> 16.
    code.add(0x79, 0, 5, PLACE as i16 + 8, 0);
    code.add(0xbf, 4, 0, 0, 0);
    code.add(0x07, 4, 0, 0, 1);
    code.add(0x7b, 5, 4, PLACE as i16 + 8, 0);
    code.add(0x79, 4, 5, PLACE as i16, 0);
    code.add(0x5f, 0, 4, 0, 0);
    code.add(0xbf, 7, 0, 0, 0);
    code.add(0x77, 7, 0, 0, 16);
    // r0 is added to the address's lower half; its complement is the identification. r7 is added to the port.
    code.add(0x69, 4, 5, vary as i16, 0);
    code.add(0x0f, 0, 4, 0, 0);
    code.add(0x6b, 2, 0, vary as i16, 0);
    code.add(0xa7, 0, 0, 0, -1);
    code.add(0x6b, 2, 0, IDENTIFICATION as i16, 0);
    code.add(0x69, 4, 5, vary.port(), 0);
    code.add(0x0f, 7, 4, 0, 0);
    code.add(0x6b, 2, 7, vary.port(), 0);
    match then {
        Then::Stack => code.end(PASS),
        Then::Redirect(ifindex) => {
            code.add(0xb7, 1, 0, 0, *ifindex as i32);
            code.add(0xb7, 2, 0, 0, 0);
            code.add(0x85, 0, 0, 0, REDIRECT);
            code.add(0x95, 0, 0, 0, 0);
        }
        Then::Program(_) => {
            code.add(0xbf, 1, 6, 0, 0);
            code.load_map(2, next, false);
            code.add(0xb7, 3, 0, 0, 0);
            code.add(0x85, 0, 0, 0, TAIL_CALL);
            code.end(ABORTED);
        }
    }
    code
}
