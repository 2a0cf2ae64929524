//! Who is measured, and in what.

/// What brings packets to the container and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// Client and server on the two ends of one veth pair: the limit of what a user can feel.
    Direct,
    /// An XDP program that does nothing but redirect to the endpoint: the limit of what a host can do inward.
    Redirect,
    /// Routing alone, no translation: what the stack itself costs.
    Routed,
    /// iptables (the old kernel interface), with Docker's chains.
    IptablesLegacy,
    /// iptables over nf_tables, with Docker's chains.
    IptablesNft,
    /// One nftables map for all published ports: the best that netfilter can do.
    NftablesMap,
    /// docker-proxy, a process for each port.
    DockerProxy,
    /// datapath, with every packet sent through the stack.
    DatapathKernel,
    /// datapath in TC.
    Datapath,
    /// datapath in XDP, in the uplink's driver.
    DatapathXdp,
}

/// The contender that the others are set against.
pub(super) const OURS: &str = Contender::Datapath.name();

impl Contender {
    pub(super) const ALL: [Self; 10] = [
        Self::Direct,
        Self::Redirect,
        Self::Routed,
        Self::IptablesLegacy,
        Self::IptablesNft,
        Self::NftablesMap,
        Self::DockerProxy,
        Self::DatapathKernel,
        Self::Datapath,
        Self::DatapathXdp,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct veth, no host",
            Self::Redirect => "bare XDP redirect, no NAT",
            Self::Routed => "routed, no NAT",
            Self::IptablesLegacy => "iptables-legacy",
            Self::IptablesNft => "iptables-nft",
            Self::NftablesMap => "nftables map",
            Self::DockerProxy => "docker-proxy",
            Self::DatapathKernel => "datapath, forwarding = kernel",
            Self::Datapath => "datapath",
            Self::DatapathXdp => "datapath, XDP",
        }
    }

    /// Whether it translates: the others carry the same packets with the container's own address.
    pub(super) const fn translates(self) -> bool {
        !matches!(self, Self::Direct | Self::Redirect | Self::Routed)
    }

    /// Whether its packets go through a host that forwards them, rather than end in a socket there.
    pub(super) const fn forwards(self) -> bool {
        !matches!(self, Self::Direct | Self::DockerProxy)
    }

    /// Whether a connection's both ways pass.
    pub(super) const fn answers(self) -> bool {
        !matches!(self, Self::Redirect)
    }

    /// Whether a container's own way to a published port goes by it. Docker's rules leave that to docker-proxy.
    pub(super) const fn turns_round(self) -> bool {
        matches!(
            self,
            Self::NftablesMap | Self::DockerProxy | Self::DatapathKernel | Self::Datapath
        )
    }

    /// Whether it is this project.
    pub(super) const fn is_ours(self) -> bool {
        matches!(
            self,
            Self::DatapathKernel | Self::Datapath | Self::DatapathXdp
        )
    }
}
