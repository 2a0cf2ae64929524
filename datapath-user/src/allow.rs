//! Allow-lists as people write them: the networks whose packets a published port answers.

use std::{collections::BTreeSet, fmt, net::IpAddr, sync::Arc};

use datapath_common::allow::MAX_LIST;
use ipnet::IpNet;

use crate::config::ports::{Fault, quoted};

/// The networks of one list, sorted, each once. The ports of a range share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllowList(Arc<[IpNet]>);

impl AllowList {
    /// Reads a list.
    ///
    /// # Errors
    /// The index of the network that is wrong, if it is one, and what is.
    pub fn parse(
        texts: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Self, (Option<usize>, Fault)> {
        let mut networks = BTreeSet::new();
        for (index, text) in texts.into_iter().enumerate() {
            networks.insert(network(text.as_ref()).map_err(|fault| (Some(index), fault))?);
        }
        let message = match networks.len() {
            0 => {
                "names nobody; name networks such as \"203.0.113.0/24\", or leave the list out to let everybody in"
                    .to_owned()
            }
            count if count > MAX_LIST => {
                format!("{count} networks are too many; a list names {MAX_LIST} at the most")
            }
            _ => return Ok(networks.into_iter().collect()),
        };
        Err((None, Fault(message)))
    }

    /// The networks of an address's family: only those can ask there.
    #[must_use]
    pub fn for_family_of(&self, addr: IpAddr) -> Self {
        let networks = self.0.iter().copied();
        networks
            .filter(|network| network.addr().is_ipv4() == addr.is_ipv4())
            .collect()
    }

    /// Whether a source is named.
    #[must_use]
    pub fn contains(&self, src: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&src))
    }

    /// Whether nobody is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks.
    #[must_use]
    pub fn networks(&self) -> &[IpNet] {
        &self.0
    }
}

impl FromIterator<IpNet> for AllowList {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let networks: BTreeSet<_> = networks.into_iter().collect();
        Self(networks.into_iter().collect())
    }
}

/// For a column: the first few, and how many more there are.
impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        if self.is_empty() {
            return f.write_str("nobody");
        }
        for (index, network) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{network}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, Fault> {
    const EXPECTED: &str =
        "write a network as ADDRESS/PREFIX, such as 203.0.113.0/24, or a single address";
    let network: IpNet = match text.parse::<IpAddr>() {
        Ok(addr) => addr.into(),
        Err(_) => text.parse().map_err(|_| Fault::new(EXPECTED))?,
    };
    if network.addr() != network.network() {
        let canonical = network.trunc().to_string();
        return Err(Fault(format!(
            "bits are set behind the prefix; write {}",
            quoted(&canonical)
        )));
    }
    if let IpNet::V6(v6) = network
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return Err(Fault::new(
            "no packet has an IPv4-mapped source; write the IPv4 network itself",
        ));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_addresses_in_both_families() {
        let list = AllowList::parse(["2001:db8::/32", "203.0.113.9", "203.0.113.9/32"]).unwrap();
        assert_eq!(list.to_string(), "203.0.113.9/32, 2001:db8::/32");
        for (src, named) in [
            ("203.0.113.9", true),
            ("203.0.113.8", false),
            ("2001:db8:7::7", true),
            ("2001:db9::7", false),
        ] {
            assert_eq!(list.contains(src.parse().unwrap()), named, "{src}");
        }
        let four = list.for_family_of("0.0.0.0".parse().unwrap());
        assert_eq!(four.to_string(), "203.0.113.9/32");
        let many: Vec<_> = (0..10).map(|n| format!("10.0.0.{n}")).collect();
        let many = AllowList::parse(&many).unwrap();
        assert_eq!(
            many.to_string(),
            "10.0.0.0/32, 10.0.0.1/32, 10.0.0.2/32 and 7 more"
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("203.0.113.5/24", "write \"203.0.113.0/24\""),
            ("203.0.113.0/33", "ADDRESS/PREFIX"),
            ("::ffff:203.0.113.0/120", "IPv4-mapped"),
            ("everyone", "ADDRESS/PREFIX"),
            ("", "ADDRESS/PREFIX"),
            ("fe80::1%eth0", "ADDRESS/PREFIX"),
        ] {
            let (index, fault) = AllowList::parse(["203.0.113.0/24", text]).unwrap_err();
            assert_eq!(index, Some(1), "{text}");
            assert!(fault.to_string().contains(part), "{text}: {fault}");
        }
        let (index, fault) = AllowList::parse([""; 0]).unwrap_err();
        assert!(index.is_none() && fault.to_string().contains("names nobody"));
        let many: Vec<_> = (0..=MAX_LIST)
            .map(|n| format!("10.0.{}.{}", n / 256, n % 256))
            .collect();
        let (_, fault) = AllowList::parse(&many).unwrap_err();
        assert!(fault.to_string().contains("too many"), "{fault}");
    }
}
