//! Whether an ICMP error's checksum is right, and that of the IPv4 header that it quotes (RFC 5508, REQ-3 and 3a).
//!
//! Mended along with what changes, a wrong checksum would stay wrong and its receiver would drop the error. But who
//! forges an error of which he knows only half may leave the checksum to chance, and what is quoted of a header that
//! is damaged may be about anybody's packet. The quoted transport's own checksum is not looked at (REQ-3c): there is
//! seldom enough quoted for it.

use core::hint::black_box;

use datapath_common::{checksum, reason::Reason};

use crate::{
    bpf,
    maps::{Maps, Work},
    packet::{Buffered, Piece},
};

/// How many pieces are summed up at the most. Errors are at most 576 bytes over IPv4 (RFC 1812, 4.3.2.3) and 1280 over
/// IPv6 (RFC 4443, 2.4c); a longer one than these pieces is left to its receiver.
const PIECES: u32 = 4;

/// Lets an error through, with what it quotes read, if its checksums are right.
///
/// A fragment's sum is known to nobody but who puts the packet together.
#[inline(never)]
pub fn check<P: Buffered, F: Maps>(packet: &P, work: &mut Work<F>) -> Result<(), Reason> {
    let Work {
        headers,
        quoted,
        piece,
        ..
    } = work;
    if F::HEADER_CHECKSUM {
        let header = sum(packet, piece, quoted.l3, quoted.l4 - quoted.l3)?;
        if !checksum::is_right(header) {
            return Err(Reason::BadChecksum);
        }
    }
    let length = headers.payload();
    if headers.fragmented || length > PIECES * Piece::BYTES {
        return Ok(());
    }
    let mut message = sum(packet, piece, headers.l4, length)?;
    if F::VERSION == 6 {
        // RFC 4443, 2.3.
        message = checksum::add(message, u32::from(headers.pseudo_header()));
    }
    if checksum::is_right(message) {
        Ok(())
    } else {
        Err(Reason::BadChecksum)
    }
}

/// The sum of so many bytes of the packet.
///
/// Verifier: a sub-program, so that its loop is verified once for each caller and by itself.
#[inline(never)]
fn sum<P: Buffered>(
    packet: &P,
    piece: &mut Piece,
    offset: u32,
    length: u32,
) -> Result<u32, Reason> {
    let (mut sum, mut done) = (0, 0);
    for _ in 0..PIECES {
        let rest = length.saturating_sub(done);
        if rest == 0 {
            break;
        }
        // Verifier: bounds are told of a number of 64 bits, not of its lower half; and Linux 6.1 learns nothing from a
        // comparison with 0, but from a mask.
        let most = u64::from(Piece::BYTES);
        let bytes = (black_box(u64::from(rest).min(most)).wrapping_sub(1) & (most - 1)) + 1;
        if let Some(last) = piece.0.get_mut((bytes / 4) as usize) {
            // An odd end is summed up as if zeros followed (RFC 1071, 4.1).
            *last = 0;
        }
        packet.copy(offset + done, bytes as u32, piece)?;
        sum = bpf::add_to_sum(sum, &piece.0, bytes.div_ceil(4) as u32 * 4);
        done += bytes as u32;
    }
    Ok(sum)
}
