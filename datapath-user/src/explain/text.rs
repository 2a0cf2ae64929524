//! An explanation for people.

use std::{fmt, net::SocketAddr};

use super::{Explanation, packet::Ends};

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of a ping there is an identifier, on the side of the asker.
        if self.sport == 0 || self.dport == 0 {
            let id = self.sport.max(self.dport);
            return write!(f, "{} > {} id {id}", self.src, self.dst);
        }
        let (src, dst) = (
            SocketAddr::new(self.src, self.sport),
            SocketAddr::new(self.dst, self.dport),
        );
        write!(f, "{src} > {dst}")
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packet = &self.packet;
        if let Some(asked) = &self.asked {
            writeln!(f, "{asked} is, on the wire,")?;
        }
        let kind = match (packet.protocol, packet.first) {
            ("tcp", true) => "a first segment (SYN)",
            ("udp", true) => "a first datagram",
            ("icmp" | "icmpv6", true) => "a first echo request",
            _ => "a packet of a flow that exists",
        };
        write!(f, "{} {}, {kind}, ", packet.protocol, packet.ends)?;
        match &packet.interface {
            Some(interface) => writeln!(f, "arriving at {interface}")?,
            None => writeln!(f, "sent by this host")?,
        }
        for step in &self.steps {
            let reason = step.reason.unwrap_or("left to the next program");
            writeln!(f, "  {} on {}: {reason}", step.program, step.interface)?;
            if !step.meaning.is_empty() {
                writeln!(f, "    {}", step.meaning)?;
            }
            if let Some(ends) = &step.becomes {
                let across = match (packet.ends.src.is_ipv4(), ends.src.is_ipv4()) {
                    (true, false) => ", a packet of IPv6",
                    (false, true) => ", a packet of IPv4",
                    _ => "",
                };
                writeln!(f, "    becomes {ends}{across}")?;
            }
        }
        if let Some(binding) = &self.binding {
            writeln!(
                f,
                "  published port {} to {}, by {}",
                binding.listen, binding.to, binding.owner
            )?;
        }
        if let Some(flow) = &self.flow {
            let new = if flow.new { "new" } else { "existing" };
            write!(f, "  {new} flow, {}", flow.nat)?;
            if let Some(state) = flow.state {
                write!(f, ", {state}")?;
            }
            writeln!(f, ": {}, answered by {}", flow.original, flow.reply)?;
        }
        if let Some(way) = &self.way {
            writeln!(f, "  goes {way}")?;
        }
        f.write_str(self.verdict)?;
        // The last program has said so already.
        if self
            .steps
            .last()
            .is_none_or(|step| step.meaning != self.because)
        {
            write!(f, ": {}", self.because)?;
        }
        if let Some(remedy) = self.remedy {
            write!(f, "\n{remedy}")?;
        }
        if !self.exact {
            f.write_str(
                "\nThe programs in force are another build's than this command's, whose own were asked.",
            )?;
        }
        Ok(())
    }
}
