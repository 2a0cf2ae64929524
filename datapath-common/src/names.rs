//! Maps and programs by name, each written once. BPF object names end after 15 bytes
//! (`BPF_OBJ_NAME_LEN` in include/uapi/linux/bpf.h): longer ones would be cut where `bpftool` prints them.

/// Maps, as `bpftool map` and the pin directory show them.
pub mod maps {
    /// Published ports, IPv4.
    pub const BINDINGS4: &str = "BINDINGS4";
    /// Published ports, IPv6.
    pub const BINDINGS6: &str = "BINDINGS6";
    /// Networks of the allow-lists, IPv4.
    pub const ALLOWED4: &str = "ALLOWED4";
    /// Networks of the allow-lists, IPv6.
    pub const ALLOWED6: &str = "ALLOWED6";
    /// Counters of the published ports, by slot.
    pub const BINDING_STATS: &str = "BINDING_STATS";
    /// Established flows, IPv4.
    pub const FLOWS4: &str = "FLOWS4";
    /// Established flows, IPv6.
    pub const FLOWS6: &str = "FLOWS6";
    /// Half-open and unanswered flows, IPv4.
    pub const HALF4: &str = "HALF4";
    /// Half-open and unanswered flows, IPv6.
    pub const HALF6: &str = "HALF6";
    /// Endpoint-independent mappings, IPv4.
    pub const MAPPINGS4: &str = "MAPPINGS4";
    /// Endpoint-independent mappings, IPv6.
    pub const MAPPINGS6: &str = "MAPPINGS6";
    /// Fragmented datagrams under way, IPv4.
    pub const FRAGMENTS4: &str = "FRAGMENTS4";
    /// Fragmented datagrams under way, IPv6.
    pub const FRAGMENTS6: &str = "FRAGMENTS6";
    /// Managed networks, IPv4.
    pub const NETWORKS4: &str = "NETWORKS4";
    /// Managed networks, IPv6.
    pub const NETWORKS6: &str = "NETWORKS6";
    /// The host's addresses, IPv4.
    pub const LOCALS4: &str = "LOCALS4";
    /// The host's addresses, IPv6.
    pub const LOCALS6: &str = "LOCALS6";
    /// Addresses by uplink, IPv4.
    pub const UPLINKS4: &str = "UPLINKS4";
    /// Addresses by uplink, IPv6.
    pub const UPLINKS6: &str = "UPLINKS6";
    /// Endpoints by address, IPv4.
    pub const ENDPOINTS4: &str = "ENDPOINTS4";
    /// Endpoints by address, IPv6.
    pub const ENDPOINTS6: &str = "ENDPOINTS6";
    /// Next hops outside, IPv4.
    pub const HOPS4: &str = "HOPS4";
    /// Next hops outside, IPv6.
    pub const HOPS6: &str = "HOPS6";
    /// Ports whose endpoint takes frames from the driver's level.
    pub const FRAME_PORTS: &str = "FRAME_PORTS";
    /// The uplinks' Ethernet addresses.
    pub const CARDS: &str = "CARDS";
    /// What processes of the host dialled over IPv4, by socket and endpoint.
    pub const PEERS4: &str = "PEERS4";
    /// What they dialled over IPv6.
    pub const PEERS6: &str = "PEERS6";
    /// How many flows endpoints have opened, IPv4.
    pub const OPENED4: &str = "OPENED4";
    /// How many they have opened, IPv6.
    pub const OPENED6: &str = "OPENED6";
    /// How many they had when that was counted, IPv4.
    pub const HELD4: &str = "HELD4";
    /// How many they had, IPv6.
    pub const HELD6: &str = "HELD6";
    /// Which ports are published nowhere.
    pub const UNPUBLISHED: &str = "UNPUBLISHED";
    /// Source ports that masquerade has shown.
    pub const SHOWN: &str = "SHOWN";
    /// Counters by reason.
    pub const REASONS: &str = "REASONS";
    /// Dropped packets, for whoever monitors.
    pub const EVENTS: &str = "EVENTS";
    /// Whether anybody does.
    pub const MONITOR: &str = "MONITOR";
    /// How many events there were.
    pub const WRITTEN: &str = "WRITTEN";
    /// The settings.
    pub const SETTINGS: &str = "SETTINGS";
    /// Generations by slot.
    pub const GENERATIONS: &str = "GENERATIONS";

    /// All that are pinned.
    pub const ALL: &[&str] = &[
        BINDINGS4,
        BINDINGS6,
        ALLOWED4,
        ALLOWED6,
        BINDING_STATS,
        FLOWS4,
        FLOWS6,
        HALF4,
        HALF6,
        MAPPINGS4,
        MAPPINGS6,
        FRAGMENTS4,
        FRAGMENTS6,
        NETWORKS4,
        NETWORKS6,
        LOCALS4,
        LOCALS6,
        UPLINKS4,
        UPLINKS6,
        ENDPOINTS4,
        ENDPOINTS6,
        HOPS4,
        HOPS6,
        FRAME_PORTS,
        CARDS,
        PEERS4,
        PEERS6,
        OPENED4,
        OPENED6,
        HELD4,
        HELD6,
        UNPUBLISHED,
        SHOWN,
        REASONS,
        EVENTS,
        MONITOR,
        WRITTEN,
        SETTINGS,
        GENERATIONS,
    ];
}

/// Programs.
pub mod programs {
    /// XDP of an uplink.
    pub const UPLINK_XDP: &str = "uplink_xdp";
    /// TC ingress of an uplink.
    pub const UPLINK_INGRESS: &str = "uplink_ingress";
    /// TC egress of an uplink.
    pub const UPLINK_EGRESS: &str = "uplink_egress";
    /// TC ingress of a managed bridge.
    pub const BRIDGE_INGRESS: &str = "bridge_ingress";
    /// TC ingress of an endpoint's port on its bridge.
    pub const VETH_INGRESS: &str = "veth_ingress";

    /// The classifiers: attached to interfaces.
    pub const CLASSIFIERS: &[&str] = &[UPLINK_INGRESS, UPLINK_EGRESS, BRIDGE_INGRESS, VETH_INGRESS];
    /// The programs that see the host's own calls: attached to the root cgroup. Each is named after its hook.
    pub const HOST: &[&str] = &[
        "host_connect4",
        "host_connect6",
        "host_sendmsg4",
        "host_sendmsg6",
        "host_recvmsg4",
        "host_recvmsg6",
        "host_peername4",
        "host_peername6",
    ];
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_fit_the_kernel() {
        for name in super::maps::ALL
            .iter()
            .chain(super::programs::CLASSIFIERS)
            .chain(super::programs::HOST)
            .chain([&super::programs::UPLINK_XDP])
        {
            assert!(name.len() <= 15, "{name}");
        }
    }
}
