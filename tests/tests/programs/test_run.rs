//! `BPF_PROG_TEST_RUN`, with the flag for the card's own sum, which aya's call does not take yet.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use nix::libc;

/// `BPF_PROG_TEST_RUN` of include/uapi/linux/bpf.h.
const PROG_TEST_RUN: libc::c_int = 10;
/// `BPF_F_TEST_SKB_CHECKSUM_COMPLETE`: the frame comes with the sum that a network card made of it, and
/// the kernel compares that sum with the frame when the program is done.
const CHECKSUM_COMPLETE: u32 = 1 << 2;
/// Where `struct __sk_buff` has the interface that a packet came in by, and the one it is at.
const INGRESS_IFINDEX: usize = 36;
const IFINDEX: usize = 40;
/// Room for what comes out.
const ROOM: usize = 4096;

/// `union bpf_attr` as that command reads it.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    zero: u32,
}

/// Runs an XDP program on a frame that came in by an interface of the calling thread's network namespace: the action,
/// and the frame afterwards.
pub(crate) fn test_run_xdp(
    program: BorrowedFd<'_>,
    ifindex: u32,
    frame: &[u8],
) -> io::Result<(i32, Vec<u8>)> {
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, frame.len() as u32, 0, ifindex, 0, 0].map(u32::to_ne_bytes);
    call(program, frame, context.as_flattened(), 0)
}

/// Runs a TC program on a frame at an interface of the calling thread's network namespace: the action, and
/// the frame afterwards. `EBADMSG` says that the program broke the card's sum.
pub(crate) fn test_run(
    program: BorrowedFd<'_>,
    ifindex: u32,
    frame: &[u8],
) -> io::Result<(i32, Vec<u8>)> {
    let mut context = [0; IFINDEX + 4];
    context[INGRESS_IFINDEX..][..4].copy_from_slice(&ifindex.to_ne_bytes());
    context[IFINDEX..][..4].copy_from_slice(&ifindex.to_ne_bytes());
    call(program, frame, &context, CHECKSUM_COMPLETE)
}

fn call(
    program: BorrowedFd<'_>,
    frame: &[u8],
    context: &[u8],
    flags: u32,
) -> io::Result<(i32, Vec<u8>)> {
    let mut out = vec![0; ROOM];
    let mut attributes = Attributes {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        data_size_in: frame.len() as u32,
        data_size_out: out.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat: 1,
        ctx_size_in: context.len() as u32,
        ctx_in: context.as_ptr() as u64,
        flags,
        ..Attributes::default()
    };
    // SAFETY: the kernel reads and writes within the sizes given, of buffers that live for the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_TEST_RUN,
            &raw mut attributes,
            size_of::<Attributes>(),
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    out.truncate(attributes.data_size_out as usize);
    Ok((attributes.retval.cast_signed(), out))
}
