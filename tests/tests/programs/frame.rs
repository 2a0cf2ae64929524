//! Frames, built by a library that is not ours: lengths and checksums are its, so what a program makes of one
//! frame can be compared byte by byte with another built from scratch.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FlowLabel,
    Ipv6FragmentHeader, Ipv6Header, PacketBuilder, TcpHeader,
};

/// The host's Ethernet address, on all its interfaces.
pub(crate) const HOST: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// That of whoever sends to it.
pub(crate) const SENDER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;

/// TCP's flags, as the header has them.
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// What stands behind the IP header.
#[derive(Clone, Debug)]
enum Body {
    Udp,
    Tcp { flags: u8, seq: u32, ack: u32 },
    Echo { request: bool },
    Error { kind: u8, code: u8, word: u32 },
}

/// A frame to be built. Every change of it is another frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    from: SocketAddr,
    to: SocketAddr,
    body: Body,
    hops: u8,
    id: u16,
    options: Vec<u8>,
    tcp_options: Vec<u8>,
    payload: Vec<u8>,
    ethernet: [[u8; 6]; 2],
}

fn frame(from: SocketAddr, to: SocketAddr, body: Body) -> Frame {
    Frame {
        from,
        to,
        body,
        hops: 64,
        id: 0x1234,
        options: Vec::new(),
        tcp_options: Vec::new(),
        payload: b"payload".to_vec(),
        ethernet: [HOST, SENDER],
    }
}

/// A datagram.
pub(crate) fn udp(from: SocketAddr, to: SocketAddr) -> Frame {
    frame(from, to, Body::Udp)
}

/// A segment with these flags.
pub(crate) fn tcp(from: SocketAddr, to: SocketAddr, flags: u8) -> Frame {
    let (seq, ack) = (1000, if flags & ACK == 0 { 0 } else { 2000 });
    frame(from, to, Body::Tcp { flags, seq, ack })
}

/// An echo request; the asker's port is its identifier.
pub(crate) fn ping(from: SocketAddr, to: SocketAddr) -> Frame {
    frame(from, to, Body::Echo { request: true })
}

/// An echo reply; the asker's port is its identifier.
pub(crate) fn pong(from: SocketAddr, to: SocketAddr) -> Frame {
    frame(from, to, Body::Echo { request: false })
}

/// An ICMP error that quotes the first bytes of a packet.
pub(crate) fn error(
    from: SocketAddr,
    to: SocketAddr,
    (kind, code): (u8, u8),
    quoted: &[u8],
) -> Frame {
    let word = 0;
    frame(from, to, Body::Error { kind, code, word }).payload(quoted)
}

impl Frame {
    /// With this hop limit.
    pub(crate) fn hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    /// With this payload.
    pub(crate) fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// With this identification of the datagram.
    pub(crate) fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// With these IPv4 options.
    pub(crate) fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// With these TCP options, a multiple of four bytes.
    pub(crate) fn tcp_options(mut self, options: &[u8]) -> Self {
        self.tcp_options = options.to_vec();
        self
    }

    /// With these Ethernet addresses, destination first.
    pub(crate) fn ethernet(mut self, ethernet: [[u8; 6]; 2]) -> Self {
        self.ethernet = ethernet;
        self
    }

    /// With these sequence numbers.
    pub(crate) fn numbers(mut self, new_seq: u32, new_ack: u32) -> Self {
        if let Body::Tcp { seq, ack, .. } = &mut self.body {
            (*seq, *ack) = (new_seq, new_ack);
        }
        self
    }

    /// An error with this second word: an MTU, or where the parameter is.
    pub(crate) fn word(mut self, new: u32) -> Self {
        if let Body::Error { word, .. } = &mut self.body {
            *word = new;
        }
        self
    }

    /// From the IP header on, as far as `length` bytes.
    pub(crate) fn quote(&self, length: usize) -> Vec<u8> {
        let packet = &self.bytes()[ETHERNET..];
        packet[..length.min(packet.len())].to_vec()
    }

    /// The frame.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let [to, from] = self.ethernet;
        let builder = PacketBuilder::ethernet2(from, to).ip(self.ip());
        let (sport, dport) = (self.from.port(), self.to.port());
        let v4 = self.from.is_ipv4();
        let mut bytes = Vec::new();
        match self.body {
            Body::Udp => builder.udp(sport, dport).write(&mut bytes, &self.payload),
            Body::Tcp { flags, seq, ack } => {
                let mut header = TcpHeader::new(sport, dport, seq, 4096);
                header.acknowledgment_number = ack;
                header.fin = flags & FIN != 0;
                header.syn = flags & SYN != 0;
                header.rst = flags & RST != 0;
                header.ack = flags & ACK != 0;
                header
                    .set_options_raw(&self.tcp_options)
                    .expect("options that can be");
                builder.tcp_header(header).write(&mut bytes, &self.payload)
            }
            Body::Echo { request } => {
                let id = if request { sport } else { dport }.to_be_bytes();
                let word = [id[0], id[1], 0, 1];
                let kind = match (v4, request) {
                    (true, true) => 8,
                    (true, false) => 0,
                    (false, true) => 128,
                    (false, false) => 129,
                };
                if v4 {
                    builder
                        .icmpv4_raw(kind, 0, word)
                        .write(&mut bytes, &self.payload)
                } else {
                    builder
                        .icmpv6_raw(kind, 0, word)
                        .write(&mut bytes, &self.payload)
                }
            }
            Body::Error { kind, code, word } => {
                let word = word.to_be_bytes();
                if v4 {
                    builder
                        .icmpv4_raw(kind, code, word)
                        .write(&mut bytes, &self.payload)
                } else {
                    builder
                        .icmpv6_raw(kind, code, word)
                        .write(&mut bytes, &self.payload)
                }
            }
        }
        .expect("a frame that can be");
        bytes
    }

    fn ip(&self) -> IpHeaders {
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (from, to) = (from.octets(), to.octets());
                let mut header = Ipv4Header::new(0, self.hops, IpNumber::UDP, from, to)
                    .expect("a header without payload");
                header.identification = self.id;
                header.dont_fragment = false;
                header.options = self.options[..].try_into().expect("options that can be");
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: 0,
                    next_header: IpNumber::UDP,
                    hop_limit: self.hops,
                    source: from.octets(),
                    destination: to.octets(),
                };
                IpHeaders::Ipv6(header, Ipv6Extensions::default())
            }
            mixed => panic!("not of one family: {mixed:?}"),
        }
    }

    /// The same datagram in fragments that carry `size` bytes each, a multiple of eight, in order.
    pub(crate) fn fragments(&self, size: usize) -> Vec<Vec<u8>> {
        let whole = self.bytes();
        let (ethernet, packet) = whole.split_at(ETHERNET);
        let (header, body) = match IpHeaders::from_slice(packet).expect("an IP header") {
            (IpHeaders::Ipv4(header, _), body) => {
                (IpHeaders::Ipv4(header, Ipv4Extensions::default()), body)
            }
            (header, body) => (header, body),
        };
        let body = body.payload;
        let chunks = body.chunks(size).enumerate();
        chunks
            .map(|(number, chunk)| {
                let offset = number * size;
                let more = offset + chunk.len() < body.len();
                let mut bytes = ethernet.to_vec();
                let place = IpFragOffset::try_new((offset / 8) as u16).expect("an offset");
                bytes.extend(self.fragment_header(&header, place, more, chunk.len()));
                bytes.extend(chunk);
                bytes
            })
            .collect()
    }

    fn fragment_header(
        &self,
        header: &IpHeaders,
        offset: IpFragOffset,
        more: bool,
        length: usize,
    ) -> Vec<u8> {
        match header {
            IpHeaders::Ipv4(header, _) => {
                let mut header = header.clone();
                header.more_fragments = more;
                header.fragment_offset = offset;
                header.set_payload_len(length).expect("a length");
                header.header_checksum = header.calc_header_checksum();
                header.to_bytes().to_vec()
            }
            IpHeaders::Ipv6(header, _) => {
                let mut header = header.clone();
                let id = u32::from(self.id);
                let fragment = Ipv6FragmentHeader::new(header.next_header, offset, more, id);
                header.next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
                header.set_payload_length(length + 8).expect("a length");
                [header.to_bytes().as_slice(), &fragment.to_bytes()].concat()
            }
        }
    }
}

impl From<Frame> for Vec<u8> {
    fn from(frame: Frame) -> Self {
        frame.bytes()
    }
}

/// Writes the right header checksum where a test has changed an IPv4 header.
pub(crate) fn mend_ipv4_header(frame: &mut [u8]) {
    if frame[12..14] != [0x08, 0x00] {
        return;
    }
    let length = usize::from(frame[ETHERNET] & 0x0f).max(5) * 4;
    let header = &mut frame[ETHERNET..];
    let length = length.min(header.len());
    header[10..12].fill(0);
    let sum = etherparse::checksum::Sum16BitWords::new()
        .add_slice(&header[..length])
        .ones_complement();
    header[10..12].copy_from_slice(&sum.to_ne_bytes());
}
