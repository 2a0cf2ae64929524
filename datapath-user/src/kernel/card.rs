//! What a network card's driver is, and does to frames before a program sees them.

use std::{io, net::UdpSocket, os::fd::AsRawFd as _};

/// A network interface, as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The driver's name.
    pub driver: String,
    /// It takes VLAN tags out of arriving frames, so that a program at its level does not see them.
    pub hides_vlans: bool,
}

/// `struct ethtool_drvinfo`, as far as it is read: the command, then the driver's name of 32 bytes.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `ETHTOOL_GDRVINFO`, `ETHTOOL_GFLAGS` and `ETH_FLAG_RXVLAN` of include/uapi/linux/ethtool.h.
const GET_DRIVER: u32 = 0x3;
const GET_FLAGS: u32 = 0x25;
const HIDES_VLANS: u32 = 1 << 8;

/// `SIOCETHTOOL` of include/uapi/linux/sockios.h.
const ETHTOOL: libc::c_ulong = 0x8946;

impl Card {
    /// Asks an interface of the calling thread's network namespace.
    ///
    /// # Errors
    /// When there is no such interface. One whose driver says nothing has an empty name.
    pub fn of(interface: &str) -> io::Result<Self> {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| UdpSocket::bind(("::1", 0)))?;
        let mut info = DriverInfo {
            command: GET_DRIVER,
            driver: [0; 32],
            rest: [0; 160],
        };
        silent(ask(&socket, interface, &mut info))?;
        let mut flags = Value {
            command: GET_FLAGS,
            data: 0,
        };
        silent(ask(&socket, interface, &mut flags))?;
        let end = info.driver.iter().position(|byte| *byte == 0);
        let name = info.driver.get(..end.unwrap_or(32)).unwrap_or_default();
        Ok(Self {
            driver: String::from_utf8_lossy(name).into_owned(),
            hides_vlans: flags.data & HIDES_VLANS != 0,
        })
    }
}

/// A driver that does not know the question is none that does anything special.
fn silent(answer: io::Result<()>) -> io::Result<()> {
    match answer {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        answer => answer,
    }
}

fn ask<T>(socket: &UdpSocket, interface: &str, question: &mut T) -> io::Result<()> {
    // SAFETY: all zero is a value of this structure of integers, bytes and pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    let room = request.ifr_name.len() - 1;
    for (place, byte) in request
        .ifr_name
        .iter_mut()
        .take(room)
        .zip(interface.bytes())
    {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(question).cast();
    // SAFETY: the kernel reads the request, and writes to `question` what the structure for its command has room for.
    match unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_says_little_and_nobody_nothing() {
        let card = Card::of("lo").unwrap();
        assert!(!card.hides_vlans, "{card:?}");
        assert!(Card::of("no-such-card").is_err());
    }
}
