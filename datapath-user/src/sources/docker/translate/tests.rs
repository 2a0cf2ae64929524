use super::*;
use crate::sources::docker::answers::each;

/// As dockerd 20.10 answers, the fields that matter here.
const NETWORKS: &str = r#"[
  {"Name":"bridge","Id":"f00d5ab1e00000000000","Scope":"local","Driver":"bridge",
   "IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"172.17.0.0/16"}]},"Internal":false,
   "Options":{"com.docker.network.bridge.name":"docker0","com.docker.network.bridge.enable_icc":"true",
              "com.docker.network.bridge.default_bridge":"true",
              "com.docker.network.bridge.enable_ip_masquerade":"false"}},
  {"Name":"back","Id":"0123456789abcdef","Driver":"bridge","Internal":true,
   "IPAM":{"Config":[{"Subnet":"172.18.0.0/16","Gateway":"172.18.0.1"},{"Subnet":"fd00:1::/64"}]},
   "Options":{"com.docker.network.bridge.enable_icc":"false"}},
  {"Name":"host","Id":"aa","Driver":"host","IPAM":{"Config":[]},"Options":{}}]"#;

const CONTAINERS: &str = r#"[
  {"Id":"c0ffee0000001111222233334444","Names":["/web"],"State":"running",
   "Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
            {"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
            {"PrivatePort":443,"Type":"tcp"},
            {"IP":"0.0.0.0","PrivatePort":9,"PublicPort":9,"Type":"sctp"},
            {"IP":"203.0.113.2","PrivatePort":53,"PublicPort":53,"Type":"udp"}],
   "NetworkSettings":{"Networks":{
      "a-back":{"NetworkID":"0123456789abcdef","IPAddress":"172.18.0.9"},
      "bridge":{"NetworkID":"f00d5ab1e00000000000","IPAddress":"172.17.0.2","GlobalIPv6Address":""}}}}]"#;

fn read(networks: &str, containers: &str) -> Snapshot {
    read_beside(networks, containers, "{}")
}

fn read_beside(networks: &str, containers: &str, gateway: &str) -> Snapshot {
    let (networks, odd) = each::<Network>(serde_json::from_str(networks).unwrap());
    assert!(odd.is_empty(), "{odd:?}");
    let (containers, odd) = each::<Container>(serde_json::from_str(containers).unwrap());
    assert!(odd.is_empty(), "{odd:?}");
    let gateway = guests(serde_json::from_str(gateway).unwrap());
    snapshot(&networks, &containers, &gateway)
}

/// Where ports lead, a line each.
fn lines(snapshot: &Snapshot) -> Vec<String> {
    let ports = snapshot.publications.iter();
    let line = |port: &crate::model::Publication| {
        let (listen, to, to_port, owner) = (port.listen, port.to, port.to_port, &port.owner);
        format!("{listen} {to}:{to_port} {owner}")
    };
    ports.map(line).collect()
}

#[test]
fn networks_come_with_their_bridge_and_flags() {
    let snapshot = read(NETWORKS, "[]");
    assert_eq!(snapshot.problems, [""; 0]);
    let [back, docker0] = snapshot.networks.as_slice() else {
        panic!("{snapshot:?}")
    };
    assert_eq!(
        (back.bridge.as_str(), back.internal, back.icc),
        ("br-0123456789ab", true, false)
    );
    assert_eq!(back.subnets.len(), 2);
    assert_eq!(
        (docker0.bridge.as_str(), docker0.internal),
        ("docker0", false)
    );
    assert!(docker0.masquerade && docker0.icc && !docker0.routed);
}

#[test]
fn published_ports_lead_to_the_network_of_the_default_route() {
    let snapshot = read(NETWORKS, CONTAINERS);
    assert_eq!(
        lines(&snapshot),
        [
            "0.0.0.0:8080/tcp 172.17.0.2:80 c0ffee000000",
            "203.0.113.2:53/udp 172.17.0.2:53 c0ffee000000",
            "[::]:8080/tcp 172.17.0.2:80 c0ffee000000",
        ]
    );
}

/// As engines from 28 on answer: a mode for each family, a priority for each endpoint, and ports without one of the
/// host's where the network is routed.
#[test]
fn each_family_has_a_mode_of_its_own() {
    let networks = r#"[{"Name":"six","Id":"aaaa","Driver":"bridge","EnableIPv4":true,"EnableIPv6":true,
      "IPAM":{"Config":[{"Subnet":"10.1.0.0/24"},{"Subnet":"fd00:1::/64"}]},
      "Options":{"com.docker.network.bridge.gateway_mode_ipv6":"routed"}}]"#;
    let containers = r#"[{"Id":"dd",
      "Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
               {"IP":"::","PrivatePort":80,"Type":"tcp"},
               {"IP":"","PrivatePort":443,"PublicPort":0,"Type":"tcp"}],
      "NetworkSettings":{"Networks":{
        "six":{"NetworkID":"aaaa","IPAddress":"10.1.0.2","GlobalIPv6Address":"fd00:1::2","GwPriority":0}}}}]"#;
    let snapshot = read(networks, containers);
    assert_eq!(snapshot.problems, [""; 0]);
    let sides: Vec<_> = snapshot
        .networks
        .iter()
        .map(|net| {
            (
                net.bridge.as_str(),
                net.subnets[0].to_string(),
                net.masquerade,
                net.routed,
            )
        })
        .collect();
    assert_eq!(
        sides,
        [
            ("br-aaaa", "10.1.0.0/24".to_owned(), true, false),
            ("br-aaaa", "fd00:1::/64".to_owned(), false, false),
        ]
    );
    // The routed family's port is open at the endpoint's own address, and the rest of the endpoint is not.
    assert_eq!(
        lines(&snapshot),
        [
            "0.0.0.0:8080/tcp 10.1.0.2:80 dd",
            "[fd00:1::2]:80/tcp fd00:1::2:80 dd"
        ]
    );
}

#[test]
fn modes_that_open_an_endpoint_and_modes_that_close_the_network() {
    let network = |mode: &str| {
        let networks = format!(
            r#"[{{"Name":"n","Id":"aaaa","Driver":"bridge","IPAM":{{"Config":[{{"Subnet":"10.1.0.0/24"}}]}},
               "Options":{{"com.docker.network.bridge.gateway_mode_ipv4":"{mode}"}}}}]"#
        );
        let [network] = read(&networks, "[]").networks.try_into().unwrap();
        (network.masquerade, network.internal, network.routed)
    };
    assert_eq!(network("nat"), (true, false, false));
    assert_eq!(network("nat-unprotected"), (true, false, true));
    assert_eq!(network("routed"), (false, false, false));
    assert_eq!(network("isolated"), (true, true, false));
    assert_eq!(network("of tomorrow"), (true, false, false));
}

#[test]
fn a_port_leads_to_the_network_of_the_default_route() {
    let networks = r#"[
      {"Name":"a","Id":"aaaa","Driver":"bridge","IPAM":{"Config":[{"Subnet":"10.1.0.0/24"}]}},
      {"Name":"b","Id":"bbbb","Driver":"bridge",
       "IPAM":{"Config":[{"Subnet":"10.2.0.0/24"},{"Subnet":"fd00:2::/64"}]}},
      {"Name":"c","Id":"cccc","Driver":"bridge","IPAM":{"Config":[{"Subnet":"10.3.0.0/24"}]}},
      {"Name":"inside","Id":"dddd","Driver":"bridge","Internal":true,
       "IPAM":{"Config":[{"Subnet":"10.4.0.0/24"}]}},
      {"Name":"mac","Id":"eeee","Driver":"macvlan"}]"#;
    let leads = |endpoints: &str| {
        let containers = format!(
            r#"[{{"Id":"dd","Ports":[{{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":80,"Type":"tcp"}}],
               "NetworkSettings":{{"Networks":{{{endpoints}}}}}}}]"#
        );
        let snapshot = read(networks, &containers);
        let to = snapshot
            .publications
            .first()
            .map(|port| port.to.to_string());
        to.unwrap_or_else(|| snapshot.problems.concat())
    };
    let a = r#""a":{"NetworkID":"aaaa","IPAddress":"10.1.0.2"}"#;
    let b = r#""b":{"NetworkID":"bbbb","IPAddress":"10.2.0.2","GlobalIPv6Address":"fd00:2::2"}"#;
    let c = r#""c":{"NetworkID":"cccc","IPAddress":"10.3.0.2","GwPriority":5}"#;
    let inside = r#""A":{"NetworkID":"dddd","IPAddress":"10.4.0.2","GwPriority":9}"#;
    let mac = r#""A":{"NetworkID":"eeee","IPAddress":"10.5.0.2","GwPriority":9}"#;
    assert_eq!(leads(a), "10.1.0.2");
    assert_eq!(
        leads(&format!("{a},{b}")),
        "10.2.0.2",
        "one of both families first"
    );
    assert_eq!(
        leads(&format!("{a},{b},{c}")),
        "10.3.0.2",
        "priority before all"
    );
    assert_eq!(leads(&format!("{inside},{a},{mac}")), "10.1.0.2");
    assert!(leads(inside).contains("no address in a bridge network"));
    let least = c.replace('5', "-9223372036854775808");
    assert_eq!(leads(&format!("{a},{least}")), "10.1.0.2");
}

#[test]
fn a_task_of_an_overlay_network_is_reached_by_the_gateway_bridge() {
    let networks = r#"[{"Name":"docker_gwbridge","Id":"99","Driver":"bridge",
        "IPAM":{"Config":[{"Subnet":"172.19.0.0/16"}]},
        "Options":{"com.docker.network.bridge.name":"docker_gwbridge",
                   "com.docker.network.bridge.enable_icc":"false"}},
      {"Name":"ingress","Id":"aa","Driver":"overlay","Ingress":true}]"#;
    let containers = r#"[{"Id":"dd","Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}],
      "NetworkSettings":{"Networks":{"over":{"NetworkID":"bb","IPAddress":"10.0.1.3"}}}}]"#;
    let gateway = r#"{"Containers":{"dd":{"Name":"gateway_1","IPv4Address":"172.19.0.3/16","IPv6Address":""},
                                    "ingress-sbox":{"IPv4Address":"172.19.0.2/16"}}}"#;
    let snapshot = read_beside(networks, containers, gateway);
    assert_eq!(lines(&snapshot), ["0.0.0.0:8080/tcp 172.19.0.3:80 dd"]);
    let (listed, _) = each::<Network>(serde_json::from_str(networks).unwrap());
    let (tasks, _) = each::<Container>(serde_json::from_str(containers).unwrap());
    assert!(needs_gateway(&listed, &tasks));
    let (usual, _) = each::<Network>(serde_json::from_str(NETWORKS).unwrap());
    let (containers, _) = each::<Container>(serde_json::from_str(CONTAINERS).unwrap());
    assert!(!needs_gateway(&usual, &containers));
}

#[test]
fn odd_data_is_left_out_and_said_on_one_line() {
    let networks = r#"[
      {"Name":"x\n\u001b[31m","Id":"aaaa","Driver":"bridge","IPAM":{"Config":[{"Subnet":"nonsense\n"}]}},
      {"Name":"y","Id":"b","Driver":"bridge","Options":{"com.docker.network.bridge.name":"../etc"}},
      {"Driver":"bridge"}]"#;
    let containers = r#"[{"Ports":[{"IP":"1.2.3","PrivatePort":1,"PublicPort":2,"Type":"tcp"},
                                   {"IP":"0.0.0.0","PrivatePort":1,"PublicPort":2,"Type":"udp"},
                                   {"IP":"0.0.0.0","PrivatePort":1,"PublicPort":0,"Type":"udp"},
                                       {"IP":"0.0.0.0","PrivatePort":0,"PublicPort":3,"Type":"udp"},
                                       {"IP":"0.0.0.0","PrivatePort":99999,"PublicPort":4,"Type":"udp"},
                                       {"IP":"0.0.0.0","PublicPort":5,"Type":"\u001b"}, "x\n"]}, {}]"#;
    let snapshot = read(networks, containers);
    assert_eq!(snapshot.publications, []);
    assert_eq!(snapshot.problems.len(), 8, "{:?}", snapshot.problems);
    for problem in &snapshot.problems {
        assert!(!problem.contains(char::is_control), "{problem}");
    }
}

#[test]
fn a_container_without_an_id_has_an_owner_that_can_be_named() {
    for id in ["", r#""Id":"","#, r#""Id":"\u0007","#] {
        let snapshot = read(
            NETWORKS,
            &CONTAINERS.replace(r#""Id":"c0ffee0000001111222233334444","#, id),
        );
        assert!(!snapshot.publications.is_empty());
        for port in snapshot.publications {
            assert_eq!(port.owner, "nameless");
        }
    }
}
