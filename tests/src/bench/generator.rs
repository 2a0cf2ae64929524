//! Frames as a network card's driver would hand them in, as many as one CPU can.
//!
//! An XDP program is run by the kernel itself in its mode of live frames (Documentation/bpf/bpf_prog_run.rst): it
//! writes each frame anew and passes it on, so that real packets stand on an interface's receive path, and no
//! sender's socket is paid for. It is sixty instructions, written out here: a compiler for them would be a
//! dependency of the measuring alone.

use std::{
    fs, io,
    mem::size_of,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

/// Bytes of a frame: the smallest that a wire carries, without its checksum.
pub(super) const FRAME: usize = 60;
/// The frame in the map, filled up to whole words.
const PLACE: usize = 64;
/// How many frames one call may hand in.
const CALL: u32 = 1 << 20;

/// `BPF_MAP_TYPE_ARRAY`, `BPF_PROG_TYPE_XDP` and the commands of bpf(2) that are used.
const ARRAY: u32 = 2;
const XDP: u32 = 6;
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
/// `BPF_F_TEST_XDP_LIVE_FRAMES`.
const LIVE_FRAMES: u32 = 2;

/// Which address differs from one frame to the next: where its lower half stands in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vary {
    /// The source.
    Source = 28,
    /// The destination.
    Destination = 32,
}

/// Where the identification stands in the frame.
pub(super) const IDENTIFICATION: usize = 18;

/// A generator of one frame, of which one address differs from one to the next.
#[derive(Debug)]
pub(super) struct Generator {
    program: OwnedFd,
    _frame: OwnedFd,
}

/// Instructions of the machine (Documentation/bpf/standardization/instruction-set.rst).
struct Code(Vec<u8>);

impl Code {
    fn add(&mut self, opcode: u8, to: u8, from: u8, offset: i16, value: i32) {
        self.0.push(opcode);
        self.0.push(to | from << 4);
        self.0.extend(offset.to_ne_bytes());
        self.0.extend(value.to_ne_bytes());
    }
}

/// What is written into the map: the frame, then how many flows there are (a power of two), then the count.
#[repr(C)]
struct State {
    frame: [u8; PLACE],
    mask: u64,
    count: u64,
}

impl Generator {
    /// Makes it. The frame has to be IPv4 without options: the lower half of one address counts through `flows`,
    /// and the identification is its complement, so that the header's checksum stays right.
    ///
    /// # Errors
    /// When the kernel refuses map or program.
    pub(super) fn new(frame: &[u8], vary: Vary, flows: u32) -> io::Result<Self> {
        let mut state = State {
            frame: [0; PLACE],
            mask: u64::from(flows.next_power_of_two() - 1),
            count: 0,
        };
        for (place, byte) in state.frame.iter_mut().zip(frame) {
            *place = *byte;
        }
        let map = create()?;
        update(&map, &state)?;
        let program = load(&program(&map, vary))?;
        Ok(Self {
            program,
            _frame: map,
        })
    }

    /// Hands in `count` frames at an interface of the calling thread's network namespace, from this CPU.
    /// Returns how long it took until the stack was done with the last.
    ///
    /// # Errors
    /// When the kernel refuses, as it does for an interface without XDP.
    pub(super) fn send(&self, ifindex: u32, count: u32) -> io::Result<Duration> {
        let frame = [0_u8; FRAME];
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, FRAME as u32, 0, ifindex, 0, 0];
        let start = Instant::now();
        let mut left = count;
        while left > 0 {
            let repeat = left.min(CALL);
            let mut attributes = Attributes::default();
            attributes.put32(0, self.program.as_raw_fd() as u32);
            attributes.put32(8, FRAME as u32);
            attributes.put64(16, frame.as_ptr() as u64);
            attributes.put32(32, repeat);
            attributes.put32(40, size_of::<[u32; 6]>() as u32);
            attributes.put64(48, context.as_ptr() as u64);
            attributes.put32(64, LIVE_FRAMES);
            attributes.put32(72, 64);
            attributes.call(PROG_TEST_RUN)?;
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
pub(super) fn prepare(interface: &str) -> io::Result<OwnedFd> {
    let mut code = Code(Vec::new());
    code.add(0xb7, 0, 0, 0, 2);
    code.add(0x95, 0, 0, 0, 0);
    let program = load(&code.0)?;
    let mut attributes = Attributes::default();
    attributes.put32(0, program.as_raw_fd() as u32);
    attributes.put32(4, ifindex(interface)?);
    // BPF_XDP, and native.
    attributes.put32(8, 37);
    attributes.put32(12, 4);
    attributes.call(28)
}

/// An interface's index in the calling thread's network namespace.
///
/// # Errors
/// When there is none of that name.
pub(super) fn ifindex(interface: &str) -> io::Result<u32> {
    nix::net::if_::if_nametoindex(interface).map_err(io::Error::from)
}

/// Copies the frame, counts, writes source and identification, passes it on.
fn program(map: &OwnedFd, vary: Vary) -> Vec<u8> {
    let mut code = Code(Vec::new());
    // r2 = data, r3 = data_end; a frame too short is dropped.
    code.add(0x61, 2, 1, 0, 0);
    code.add(0x61, 3, 1, 4, 0);
    code.add(0xbf, 4, 2, 0, 0);
    code.add(0x07, 4, 0, 0, FRAME as i32);
    code.add(0xb7, 0, 0, 0, 1);
    // The jump is patched when the end is known.
    let jump = code.0.len();
    code.add(0x2d, 4, 3, 0, 0);
    // r5 = the map's value.
    code.add(0x18, 5, 2, 0, map.as_raw_fd());
    code.add(0x00, 0, 0, 0, 0);
    for offset in (0..FRAME as i16 - 4).step_by(8) {
        code.add(0x79, 0, 5, offset, 0);
        code.add(0x7b, 2, 0, offset, 0);
    }
    code.add(0x61, 0, 5, FRAME as i16 - 4, 0);
    code.add(0x63, 2, 0, FRAME as i16 - 4, 0);
    // r0 = count++ & mask, in network order in the source's lower half; its complement in the identification.
    code.add(0x79, 0, 5, PLACE as i16 + 8, 0);
    code.add(0xbf, 4, 0, 0, 0);
    code.add(0x07, 4, 0, 0, 1);
    code.add(0x7b, 5, 4, PLACE as i16 + 8, 0);
    code.add(0x79, 4, 5, PLACE as i16, 0);
    code.add(0x5f, 0, 4, 0, 0);
    code.add(0x69, 4, 5, vary as i16, 0);
    code.add(0x0f, 0, 4, 0, 0);
    code.add(0x6b, 2, 0, vary as i16, 0);
    code.add(0xa7, 0, 0, 0, -1);
    code.add(0x6b, 2, 0, IDENTIFICATION as i16, 0);
    code.add(0xb7, 0, 0, 0, 2);
    let target = (code.0.len() - jump) / 8 - 1;
    code.add(0x95, 0, 0, 0, 0);
    let [low, high] = (target as i16).to_ne_bytes();
    code.0[jump + 2] = low;
    code.0[jump + 3] = high;
    code.0
}

fn create() -> io::Result<OwnedFd> {
    let mut attributes = Attributes::default();
    for (offset, value) in [(0, ARRAY), (4, 4), (8, size_of::<State>() as u32), (12, 1)] {
        attributes.put32(offset, value);
    }
    attributes.call(MAP_CREATE)
}

fn update(map: &OwnedFd, state: &State) -> io::Result<()> {
    let key = 0_u32;
    let mut attributes = Attributes::default();
    attributes.put32(0, map.as_raw_fd() as u32);
    attributes.put64(8, &raw const key as u64);
    attributes.put64(16, std::ptr::from_ref(state) as u64);
    attributes.call(MAP_UPDATE).map(drop)
}

fn load(code: &[u8]) -> io::Result<OwnedFd> {
    let licence = c"GPL";
    let mut attributes = Attributes::default();
    attributes.put32(0, XDP);
    attributes.put32(4, (code.len() / 8) as u32);
    attributes.put64(8, code.as_ptr() as u64);
    attributes.put64(16, licence.as_ptr() as u64);
    attributes.call(PROG_LOAD)
}

/// `union bpf_attr`.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

impl Default for Attributes {
    fn default() -> Self {
        Self([0; 128])
    }
}

impl Attributes {
    fn put32(&mut self, offset: usize, value: u32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn put64(&mut self, offset: usize, value: u64) {
        self.0[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
    }

    /// bpf(2). What is no descriptor comes back as one of /dev/null.
    fn call(&self, command: libc::c_long) -> io::Result<OwnedFd> {
        // SAFETY: the attributes, and what they point to, live for the call.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command,
                self.0.as_ptr(),
                self.0.len() as libc::c_long,
            )
        };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        if command == MAP_UPDATE || command == PROG_TEST_RUN {
            return fs::File::open("/dev/null").map(OwnedFd::from);
        }
        // SAFETY: a new descriptor, and nobody else's.
        Ok(unsafe { OwnedFd::from_raw_fd(answer as i32) })
    }
}
