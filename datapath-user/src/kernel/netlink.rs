//! A question to the kernel over netlink, and all that it answers, for what rtnetlink has no word for.

use std::{fmt::Debug, io};

use netlink_packet_core::{
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// A socket to the kernel, for a protocol such as `NETLINK_ROUTE`.
///
/// # Errors
/// When the kernel refuses.
pub fn connect(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Everything that the kernel answers. `flags` say what is asked for: `NLM_F_DUMP`, or `NLM_F_ACK` where it would say
/// nothing of itself.
///
/// # Errors
/// When the kernel refuses, or its answer cannot be read.
pub fn ask<T>(socket: &Socket, request: NetlinkMessage<T>, flags: u16) -> io::Result<Vec<T>>
where
    T: NetlinkSerializable + NetlinkDeserializable + Debug,
{
    let mut all = Vec::new();
    each(socket, request, flags, |answer| all.push(answer))?;
    Ok(all)
}

/// Likewise, one by one.
///
/// # Errors
/// As above.
pub fn each<T>(
    socket: &Socket,
    mut request: NetlinkMessage<T>,
    flags: u16,
    mut visit: impl FnMut(T),
) -> io::Result<()>
where
    T: NetlinkSerializable + NetlinkDeserializable + Debug,
{
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<T>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => visit(answer),
                NetlinkPayload::Done(_) => return Ok(()),
                // Without a number it says that all is well.
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Noop | NetlinkPayload::Overrun(_) | _ => {}
            }
            // Messages are filled up to whole words.
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}
