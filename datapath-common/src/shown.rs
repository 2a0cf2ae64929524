//! Which source ports masquerade has shown, a byte each: what the host's own packets are asked first, so that
//! those which cannot be taken for an endpoint's cost next to nothing.
//!
//! A port that was shown once stays so: who sends from it is looked at more closely, and no more.

/// Ports in one entry of the map.
pub const PORTS: usize = 64;
/// Entries of the map: all 65,536 ports.
pub const ENTRIES: usize = 1_024;

/// What is known of so many ports. A byte for each, since bits of one byte would be lost where two CPUs set them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// An endpoint's flow has shown it.
    pub masquerade: [u8; PORTS],
    /// A flow of the host's own from this port was translated.
    pub own: [u8; PORTS],
}

/// Where a port stands: the entry, and the place in it.
#[must_use]
#[inline(always)]
pub const fn place(port: u16) -> (u32, usize) {
    let port = port as usize;
    ((port / PORTS) as u32, port % PORTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_a_place_of_its_own() {
        for port in 0..=u16::MAX {
            let (entry, place) = place(port);
            assert!((entry as usize) < ENTRIES);
            assert_eq!(entry as usize * PORTS + place, usize::from(port));
        }
    }
}
