//! What an engine answers: its networks, and its containers with their ports and labels.
#![no_main]

use std::collections::BTreeSet;

use datapath_user::sources::docker;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answers: &[u8]| {
    // `{"networks": [..], "containers": [..]}`
    let Ok(mut answers) = serde_json::from_slice::<serde_json::Value>(answers) else {
        return;
    };
    let snapshot = docker::understand(answers["networks"].take(), answers["containers"].take());
    for problem in &snapshot.problems {
        datapath_fuzz::is_one_clean_line(problem);
    }
    let ports: BTreeSet<_> = snapshot
        .publications
        .iter()
        .map(|port| port.listen)
        .collect();
    assert_eq!(ports.len(), snapshot.publications.len(), "a port twice");
    for port in &snapshot.publications {
        assert!(port.listen.port != 0 && port.to_port != 0, "{port:?}");
        datapath_fuzz::is_one_clean_line(&port.owner);
    }
});
