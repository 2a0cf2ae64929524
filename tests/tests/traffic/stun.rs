//! What a STUN client makes of us (RFC 5780): the type of mapping and of filtering, judged by coturn's tools.

use std::process::{Command, Stdio};

use datapath_tests::lab::{Datapath, Lab, PATIENCE, Passing, wait_for};

/// A STUN server with two addresses.
fn stun_server(lab: &Lab) -> Passing {
    lab.lan.ip("addr add 203.0.113.10/24 dev eth0");
    let child = lab
        .lan
        .command("turnserver")
        .args([
            "--stun-only",
            "--no-auth",
            "--no-cli",
            "--no-tls",
            "--no-dtls",
            "-n",
        ])
        .args(["-L", "203.0.113.9", "-L", "203.0.113.10"])
        .args(["--log-file", "stdout", "--pidfile", "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("turnserver starts");
    child.into()
}

/// What the container's client says of its NAT.
fn discovered(lab: &Lab) -> String {
    let client: &mut Command = &mut lab.container.command("timeout");
    let said = client
        .args(["30", "turnutils_natdiscovery", "-m", "-f", "203.0.113.9"])
        .output()
        .expect("turnutils_natdiscovery starts");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

#[test]
fn a_stun_client_finds_endpoint_independent_mapping() {
    let lab = Lab::new();
    let _server = stun_server(&lab);
    let _datapath = Datapath::start(&lab, "");
    let mut said = String::new();
    // One try may take 30 s, where the server did not listen yet.
    wait_for(6 * PATIENCE, "the STUN server's word", || {
        said = discovered(&lab);
        said.contains("Filtering")
    });
    assert!(
        said.contains("NAT with Endpoint Independent Mapping!"),
        "{said}"
    );
    assert!(
        said.contains("NAT with Address and Port Dependent Filtering!"),
        "{said}"
    );
}
