//! Bodies of the API's requests, and answers to its clients.
#![no_main]

use datapath_user::{
    api::types::{AllowSpec, PublishSpec, Refused, Status, UnpublishSpec},
    config::{ports::AddrPorts, publish::expand},
    model::{AllowList, Source},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    drop(serde_json::from_slice::<Vec<UnpublishSpec>>(body));
    drop(serde_json::from_slice::<Vec<AllowSpec>>(body));
    drop(serde_json::from_slice::<Status>(body));
    drop(serde_json::from_slice::<Refused>(body));
    let specs: Vec<PublishSpec> = serde_json::from_slice(body).unwrap_or_default();
    for spec in specs {
        let list = spec.allow.as_ref().map(|list| AllowList::parse(list));
        let (Ok(listen), Ok(to)) = (
            spec.listen.parse::<AddrPorts>(),
            spec.to.parse::<AddrPorts>(),
        ) else {
            continue;
        };
        match list.transpose() {
            Ok(list) => {
                let source = (Source::Api, "api");
                if let Err(fault) = expand(&listen, &to, spec.protocol, list.as_ref(), source) {
                    datapath_fuzz::is_one_clean_line(&fault.fault().to_string());
                }
            }
            Err((_, fault)) => datapath_fuzz::is_one_clean_line(&fault.to_string()),
        }
    }
});
