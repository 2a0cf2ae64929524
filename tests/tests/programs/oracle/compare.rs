//! What came out of a program, beside what the model says.

use super::{cast::Packet, model::Proto};
use crate::{case::explain, frame::ETHERNET, host::Hook};

/// The source port of a translated packet, or its identifier.
pub(super) fn shown(packet: &Packet, frame: &[u8], out: &[u8]) -> u16 {
    let ip = if frame[12] == 0x08 { 20 } else { 40 };
    let fragment = if ip == 40 && frame[20] == 44 { 8 } else { 0 };
    let id = if packet.proto == Proto::Echo { 4 } else { 0 };
    let place = ETHERNET + ip + fragment + id;
    u16::from_be_bytes([out[place], out[place + 1]])
}

/// Byte by byte.
pub(super) fn same(hook: Hook, frame: &[u8], out: &[u8], expected: &[u8]) -> Result<(), String> {
    if out == expected {
        return Ok(());
    }
    Err(format!(
        "{hook:?}\nin       {}\nout      {}\nexpected {}",
        explain(frame),
        explain(out),
        explain(expected)
    ))
}
