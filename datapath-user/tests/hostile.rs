//! Text from outside, whatever it is: it is understood or refused in one line that names what is wrong, and nothing
//! panics.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use datapath_user::{
    api::types::PublishSpec,
    config::{
        Config,
        ports::{AddrPorts, HostPorts, PublishArg},
        publish::{expand, expand_listen},
    },
    model::{AllowList, Protocol, Source},
};
use proptest::prelude::*;
use serde_json::json;

/// Text near to what is meant: its own characters, and some that do not belong.
fn nearly(characters: &'static str) -> impl Strategy<Value = String> {
    let belongs = prop::sample::select(characters.chars().collect::<Vec<_>>());
    let strange = prop::sample::select(vec!['\0', '\n', '\u{1b}', '\u{663}', '\u{202e}', 'é', '"']);
    prop::collection::vec(prop_oneof![20 => belongs, 1 => strange], 0..40)
        .prop_map(String::from_iter)
}

fn is_one_clean_line(text: &str) {
    assert!(!text.is_empty(), "it says nothing");
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.len() < 1000, "{} bytes", text.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn ports_and_addresses(text in prop_oneof![nearly("0123456789.:-/[]udptc"), any::<String>()]) {
        if let Err(fault) = text.parse::<PublishArg>() {
            is_one_clean_line(&fault.to_string());
        }
        if let Err(fault) = text.parse::<HostPorts>() {
            is_one_clean_line(&fault.to_string());
        }
        match text.parse::<AddrPorts>() {
            Ok(ports) => {
                let again: AddrPorts = ports.to_string().parse().unwrap();
                prop_assert_eq!(again, ports);
            }
            Err(fault) => is_one_clean_line(&fault.to_string()),
        }
    }

    #[test]
    fn bodies_of_the_api(
        listen in nearly("0123456789.:-[]"),
        to in nearly("0123456789.:-[]"),
        network in nearly("0123456789./:"),
        cut in any::<prop::sample::Index>(),
        body in prop_oneof![nearly("[]{}\":,listentoprocudp0123456789"), any::<String>()],
    ) {
        let whole = json!([{"listen": listen, "to": to, "protocol": "udp", "allow": [network]}]).to_string();
        let mut end = cut.index(whole.len());
        while !whole.is_char_boundary(end) {
            end -= 1;
        }
        for text in [whole.as_str(), &whole[..end], &body] {
            let specs: Vec<PublishSpec> = serde_json::from_str(text).unwrap_or_default();
            for spec in specs {
                asked_to_publish(&spec);
            }
        }
    }

    /// What is near to right reaches the checks behind the syntax.
    #[test]
    fn ports_that_could_be_published(
        listen in prop_oneof![any::<IpAddr>(), Just(Ipv4Addr::UNSPECIFIED.into()), Just(Ipv6Addr::UNSPECIFIED.into())],
        to in any::<IpAddr>(),
        (first, last, to_first) in (1_u16.., 1_u16.., 1_u16..),
        length in 0_u16..100,
    ) {
        let place = |addr: IpAddr, first: u16, last: u16| match addr {
            IpAddr::V4(addr) => format!("{addr}:{first}-{last}"),
            IpAddr::V6(addr) => format!("[{addr}]:{first}-{last}"),
        };
        for last in [last, first.saturating_add(length)] {
            asked_to_publish(&PublishSpec {
                listen: place(listen, first, last),
                to: place(to, to_first, to_first.saturating_add(length)),
                protocol: Protocol::Tcp,
                allow: None,
            });
        }
    }
}

/// What the API does with one port of a request, up to where the host matters.
fn asked_to_publish(spec: &PublishSpec) {
    let allow = spec.allow.as_ref().and_then(|list| {
        AllowList::parse(list)
            .inspect_err(|(_, fault)| is_one_clean_line(&fault.to_string()))
            .ok()
    });
    let places = (
        spec.listen.parse::<AddrPorts>(),
        spec.to.parse::<AddrPorts>(),
    );
    let (listen, to) = match places {
        (Ok(listen), Ok(to)) => (listen, to),
        (Err(fault), _) | (_, Err(fault)) => return is_one_clean_line(&fault.to_string()),
    };
    let count = listen.ports.len() as usize;
    assert_eq!(expand_listen(&listen, spec.protocol).count(), count);
    match expand(
        &listen,
        &to,
        spec.protocol,
        allow.as_ref(),
        (Source::Api, "api"),
    ) {
        Ok(ports) => assert_eq!(ports.len(), count),
        Err(fault) => is_one_clean_line(&fault.fault().to_string()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The sample with every key in it, and something else in one place.
    #[test]
    fn configuration_files(
        at in any::<prop::sample::Index>(),
        length in 0_usize..20,
        put in prop_oneof![nearly("0123456789.:-/[]=\"\n{}#"), any::<String>()],
    ) {
        let characters: Vec<char> = sample().chars().collect();
        let start = at.index(characters.len());
        let end = (start + length).min(characters.len());
        let before = characters[..start].iter().copied();
        let text = before.chain(put.chars()).chain(characters[end..].iter().copied());
        if let Err(error) = load(&text.collect::<String>()) {
            is_one_clean_line(&error);
            prop_assert!(error.contains("datapath.toml"), "{}", error);
        }
    }
}

#[test]
fn the_sample_is_right_with_every_key_in_it() {
    let config = load(&sample()).unwrap();
    assert_eq!((config.networks.len(), config.publications.len()), (1, 1));
}

#[test]
fn an_uplink_is_no_networks_bridge() {
    let network = "[[network]]\nbridge = \"br0\"\nsubnets = [\"172.30.0.0/16\"]\n";
    let error = load(&format!("uplinks = [\"eth0\", \"br0\"]\n{network}")).unwrap_err();
    assert!(
        error.contains("datapath.toml:1: uplinks: ") && error.contains("br0 is the bridge"),
        "{error}"
    );
    assert!(load(&format!("uplinks = [\"eth0\"]\n{network}")).is_ok());
}

/// The sample file, its keys no comments any more.
fn sample() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/datapath.toml");
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with('[') || rest.split_whitespace().nth(1) == Some("=") => rest,
        _ => line,
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn load(text: &str) -> Result<Config, String> {
    let path = Path::new("datapath.toml");
    Config::parse(path, text).map_err(|error| error.to_string())
}
