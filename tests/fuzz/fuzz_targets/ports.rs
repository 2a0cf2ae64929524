//! Ports, addresses and allow-lists, as they are written on the command line, in the file and in labels.
#![no_main]

use std::fmt::Display;

use datapath_user::{
    config::{
        ports::{AddrPorts, HostPorts, PublishArg},
        publish::expand,
    },
    model::{AllowList, Protocol, Source},
};
use libfuzzer_sys::fuzz_target;

fn told<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result
        .inspect_err(|fault| datapath_fuzz::is_one_clean_line(&fault.to_string()))
        .ok()
}

fuzz_target!(|text: &str| {
    told(text.parse::<PublishArg>());
    told(text.parse::<HostPorts>());
    if let Some(ports) = told(text.parse::<AddrPorts>()) {
        assert_eq!(
            ports.to_string().parse::<AddrPorts>(),
            Ok(ports),
            "{text:?}"
        );
    }
    // A pair and a list, with a word each.
    let mut words = text.split(' ');
    let listen = words.next().and_then(|word| word.parse::<AddrPorts>().ok());
    let to = words.next().and_then(|word| word.parse::<AddrPorts>().ok());
    let networks: Vec<String> = words.map(str::to_owned).collect();
    let list = told(AllowList::parse(&networks).map_err(|(_, fault)| fault));
    if let (Some(listen), Some(to)) = (listen, to) {
        let source = (Source::Api, "api");
        match expand(&listen, &to, Protocol::Udp, list.as_ref(), source) {
            Ok(ports) => assert_eq!(ports.len(), listen.ports.len() as usize),
            Err(fault) => datapath_fuzz::is_one_clean_line(&fault.fault().to_string()),
        }
    }
});
