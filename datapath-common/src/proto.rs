//! Numbers of the protocols, as constants: a packet may carry any value, so none of them is an enum.

/// ICMP (RFC 792).
pub const ICMP: u8 = 1;
/// TCP (RFC 9293).
pub const TCP: u8 = 6;
/// UDP (RFC 768).
pub const UDP: u8 = 17;
/// ICMPv6 (RFC 4443).
pub const ICMPV6: u8 = 58;

/// TCP flag bits, as the header's 14th byte has them (RFC 9293, 3.1).
pub mod tcp {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
    /// The flags that end or begin something.
    pub const CONTROL: u8 = FIN | SYN | RST;
}

/// IPv6 extension headers (RFC 8200, 4).
pub mod ext {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
    /// How many a packet may carry before it is left to the kernel.
    pub const MAX: usize = 6;
}

/// The name of a protocol as `-p 80/tcp` and `conntrack -L` write it, or `None` for one that is not tracked.
#[must_use]
pub const fn name(protocol: u8) -> Option<&'static str> {
    match protocol {
        ICMP => Some("icmp"),
        TCP => Some("tcp"),
        UDP => Some("udp"),
        ICMPV6 => Some("icmpv6"),
        _ => None,
    }
}
