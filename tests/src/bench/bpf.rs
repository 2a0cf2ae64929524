//! bpf(2) as far as measuring needs it: programs of a few instructions, an array, and runs that are timed.

use std::{
    ffi::CStr,
    io,
    mem::size_of,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// `BPF_MAP_TYPE_ARRAY` and `BPF_MAP_TYPE_PROG_ARRAY`.
pub(super) const ARRAY: u32 = 2;
pub(super) const PROG_ARRAY: u32 = 3;

/// The commands that are used.
const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP: libc::c_long = 1;
const MAP_UPDATE: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const PROG_TEST_RUN: libc::c_long = 10;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const LINK_CREATE: libc::c_long = 28;
const ENABLE_STATS: libc::c_long = 32;
/// `BPF_XDP`: where programs of that type are attached; `XDP_FLAGS_DRV_MODE`.
const ATTACH_XDP: u32 = 37;
const NATIVE: u32 = 4;
/// `BPF_TCX_INGRESS`, with `BPF_TCX_EGRESS` after it; `BPF_F_BEFORE` and `BPF_F_AFTER`.
const ATTACH_TCX: u32 = 46;
const BEFORE: u32 = 1 << 3;
const AFTER: u32 = 1 << 4;
/// `BPF_F_XDP_HAS_FRAGS`, `BPF_F_TEST_XDP_LIVE_FRAMES`.
const HAS_FRAGS: u32 = 1 << 5;
const LIVE_FRAMES: u32 = 2;
/// How many frames the kernel keeps under way in a run of live frames.
const LIVE_BATCH: u32 = 64;
/// Where `struct __sk_buff` has the interface that a packet came in by, and the one it is at.
const INGRESS_IFINDEX: usize = 36;
const IFINDEX: usize = 40;

/// What a program is loaded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `BPF_PROG_TYPE_SCHED_CLS`.
    Classifier = 3,
    /// `BPF_PROG_TYPE_XDP`.
    Xdp = 6,
}

/// Instructions of the machine (Documentation/bpf/standardization/instruction-set.rst).
#[derive(Default)]
pub(crate) struct Code(pub(super) Vec<u8>);

impl Code {
    pub(super) fn add(&mut self, opcode: u8, to: u8, from: u8, offset: i16, value: i32) {
        self.0.push(opcode);
        self.0.push(to | from << 4);
        self.0.extend(offset.to_ne_bytes());
        self.0.extend(value.to_ne_bytes());
    }

    /// Ends the program with this verdict.
    pub(crate) fn end(&mut self, verdict: i32) {
        self.add(0xb7, 0, 0, 0, verdict);
        self.add(0x95, 0, 0, 0, 0);
    }

    /// Ends the program with this verdict unless the lower half of the register is this value.
    pub(super) fn unless(&mut self, register: u8, value: i32, verdict: i32) {
        self.add(0x16, register, 0, 2, value);
        self.end(verdict);
    }

    /// Loads a map's descriptor, or its first value's address, into a register.
    pub(super) fn load_map(&mut self, register: u8, map: &OwnedFd, value: bool) {
        self.add(0x18, register, 1 + u8::from(value), 0, map.as_raw_fd());
        self.add(0x00, 0, 0, 0, 0);
    }
}

/// Makes a map of one entry.
pub(super) fn create(kind: u32, size: usize) -> io::Result<OwnedFd> {
    let mut attributes = Attributes::default();
    for (offset, value) in [(0, kind), (4, 4), (8, size as u32), (12, 1)] {
        attributes.put32(offset, value);
    }
    attributes.descriptor(MAP_CREATE)
}

/// Reads its entry.
pub(super) fn lookup(map: &OwnedFd) -> io::Result<u64> {
    let (key, mut value) = (0_u32, 0_u64);
    let mut attributes = Attributes::default();
    attributes.put32(0, map.as_raw_fd() as u32);
    attributes.put64(8, &raw const key as u64);
    attributes.put64(16, &raw mut value as u64);
    attributes.call(MAP_LOOKUP)?;
    Ok(value)
}

/// Fills its entry. The value has to be of the map's size.
pub(super) fn update<T>(map: &OwnedFd, value: &T) -> io::Result<()> {
    let key = 0_u32;
    let mut attributes = Attributes::default();
    attributes.put32(0, map.as_raw_fd() as u32);
    attributes.put64(8, &raw const key as u64);
    attributes.put64(16, std::ptr::from_ref(value) as u64);
    attributes.call(MAP_UPDATE).map(drop)
}

/// Loads a program; with `frags` one that knows of frames in several parts, which tail calls must agree on.
pub(crate) fn load(kind: Kind, code: &Code, frags: bool) -> io::Result<OwnedFd> {
    let licence = c"GPL";
    let mut attributes = Attributes::default();
    attributes.put32(0, kind as u32);
    attributes.put32(4, (code.0.len() / 8) as u32);
    attributes.put64(8, code.0.as_ptr() as u64);
    attributes.put64(16, licence.as_ptr() as u64);
    if frags {
        attributes.put32(44, HAS_FRAGS);
    }
    if kind == Kind::Xdp {
        attributes.put32(68, ATTACH_XDP);
    }
    attributes.descriptor(PROG_LOAD)
}

/// A program that is loaded already.
pub(super) fn by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attributes = Attributes::default();
    attributes.put32(0, id);
    attributes.descriptor(PROG_GET_FD_BY_ID)
}

/// The id of a program that is loaded.
pub(super) fn id(program: &OwnedFd) -> io::Result<u32> {
    let shown = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
    let mut lines = shown.lines();
    lines
        .find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no id in the descriptor's account"))
}

/// Has the kernel take the time of every program's runs, until this is dropped.
pub(super) fn take_times() -> io::Result<OwnedFd> {
    // BPF_STATS_RUN_TIME is 0.
    Attributes::default().descriptor(ENABLE_STATS)
}

/// Attaches an XDP program in the driver, until the link is dropped.
pub(super) fn attach(program: &OwnedFd, ifindex: u32) -> io::Result<OwnedFd> {
    let mut attributes = Attributes::default();
    attributes.put32(0, program.as_raw_fd() as u32);
    attributes.put32(4, ifindex);
    attributes.put32(8, ATTACH_XDP);
    attributes.put32(12, NATIVE);
    attributes.descriptor(LINK_CREATE)
}

/// Attaches a classifier to a TCX hook, before all others or after them, until the link is dropped.
pub(crate) fn attach_tcx(
    program: &OwnedFd,
    ifindex: u32,
    egress: bool,
    first: bool,
) -> io::Result<OwnedFd> {
    let mut attributes = Attributes::default();
    attributes.put32(0, program.as_raw_fd() as u32);
    attributes.put32(4, ifindex);
    attributes.put32(8, ATTACH_TCX + u32::from(egress));
    attributes.put32(12, if first { BEFORE } else { AFTER });
    attributes.descriptor(LINK_CREATE)
}

/// Pins a program.
pub(crate) fn pin(program: &OwnedFd, path: &CStr) -> io::Result<()> {
    let mut attributes = Attributes::default();
    attributes.put64(0, path.as_ptr() as u64);
    attributes.put32(8, program.as_raw_fd() as u32);
    attributes.call(OBJ_PIN).map(drop)
}

/// An XDP program that lets everything through, attached in the driver until it is dropped.
///
/// # Errors
/// When the kernel, or the driver, refuses it.
pub fn let_through(ifindex: u32) -> io::Result<OwnedFd> {
    const PASS: i32 = 2;
    let mut code = Code::default();
    code.end(PASS);
    attach(&load(Kind::Xdp, &code, true)?, ifindex)
}

/// Runs an XDP program on live frames of that length at an interface (Documentation/bpf/bpf_prog_run.rst), until
/// the stack is done with the last.
pub(super) fn run_live(
    program: &OwnedFd,
    ifindex: u32,
    length: usize,
    repeat: u32,
) -> io::Result<()> {
    let frame = vec![0_u8; length];
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, length as u32, 0, ifindex, 0, 0];
    let mut attributes = Attributes::default();
    attributes.put32(0, program.as_raw_fd() as u32);
    attributes.put32(8, length as u32);
    attributes.put64(16, frame.as_ptr() as u64);
    attributes.put32(32, repeat);
    attributes.put32(40, size_of::<[u32; 6]>() as u32);
    attributes.put64(48, context.as_ptr() as u64);
    attributes.put32(64, LIVE_FRAMES);
    attributes.put32(72, LIVE_BATCH);
    attributes.call(PROG_TEST_RUN).map(drop)
}

/// Runs a program on one frame at an interface, so often: its last verdict, and nanoseconds for each run as the
/// kernel took them.
pub(super) fn time(
    program: &OwnedFd,
    kind: Kind,
    ifindex: u32,
    frame: &[u8],
    repeat: u32,
) -> io::Result<(i32, u32)> {
    let mut context = [0_u8; IFINDEX + 4];
    let mut room = vec![0_u8; 4096];
    let mut attributes = Attributes::default();
    attributes.put32(0, program.as_raw_fd() as u32);
    attributes.put32(8, frame.len() as u32);
    attributes.put32(12, room.len() as u32);
    attributes.put64(16, frame.as_ptr() as u64);
    attributes.put64(24, room.as_mut_ptr() as u64);
    attributes.put32(32, repeat);
    let used = match kind {
        Kind::Classifier => {
            for offset in [INGRESS_IFINDEX, IFINDEX] {
                context[offset..offset + 4].copy_from_slice(&ifindex.to_ne_bytes());
            }
            context.len()
        }
        Kind::Xdp => {
            context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
            context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
            24
        }
    };
    attributes.put32(40, used as u32);
    attributes.put64(48, context.as_ptr() as u64);
    attributes.call(PROG_TEST_RUN)?;
    Ok((attributes.get32(4).cast_signed(), attributes.get32(36)))
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

    fn get32(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[offset..offset + 4]);
        u32::from_ne_bytes(bytes)
    }

    fn call(&mut self, command: libc::c_long) -> io::Result<i32> {
        // SAFETY: the attributes, and what they point to, live for the call.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command,
                self.0.as_mut_ptr(),
                self.0.len() as libc::c_long,
            )
        };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(answer as i32)
    }

    /// For commands that answer with a new descriptor.
    fn descriptor(&mut self, command: libc::c_long) -> io::Result<OwnedFd> {
        let descriptor = self.call(command)?;
        // SAFETY: a new descriptor, and nobody else's.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}
