//! The network namespace that the service runs in, as the programs know it.

use std::{io, mem::size_of_val, net::UdpSocket, os::fd::AsRawFd as _};

/// The cookie of this thread's network namespace: what `bpf_get_netns_cookie` says of its sockets.
///
/// # Errors
/// When the kernel (5.14 or later) refuses.
pub fn cookie() -> io::Result<u64> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| UdpSocket::bind(("0.0.0.0", 0)))?;
    let mut cookie = 0u64;
    let mut length = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which has that many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}
