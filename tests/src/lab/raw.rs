//! Frames sent as they are, whatever they claim (packet(7)).

use std::{io, mem::size_of};

use nix::{
    libc,
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use super::Netns;

/// Sends a frame by an interface of a namespace.
///
/// # Errors
/// As the socket's.
pub fn send_frame(netns: &Netns, interface: &str, frame: &[u8]) -> io::Result<()> {
    netns.enter(|| send_here(interface, frame))
}

fn send_here(interface: &str, frame: &[u8]) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::empty(),
        None,
    )?;
    // SAFETY: all zero is a value of plain integers.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = if_nametoindex(interface)?.cast_signed();
    // SAFETY: the kernel reads the frame and the address, both of which live for the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
