//! What `datapath doctor` says of others who see the same packets.

use datapath_tests::{
    bench,
    lab::{Datapath, Lab, PORTS, run},
};

/// What it says of programs on interfaces.
fn programs(datapath: &Datapath) -> Vec<String> {
    let said = datapath.cli(&["doctor"]).stdout;
    let said = String::from_utf8_lossy(&said);
    let lines = said.lines().filter(|line| line.contains("  programs  "));
    lines.map(str::to_owned).collect()
}

#[test]
fn others_that_see_the_packets_are_named_with_the_remedy() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, PORTS);
    let before = programs(&datapath);
    assert!(
        before.len() == 1 && before[0].starts_with("fine"),
        "{before:?}"
    );

    // A filter and a program that let everything through.
    let tc = |arguments: &str| run(lab.host.command("tc").args(arguments.split(' ')));
    tc("qdisc add dev eth0 clsact");
    assert_eq!(programs(&datapath), before, "clsact without a filter");
    let bytecode = ["bpf", "bytecode", "1,6 0 0 4294967295"];
    let add = ["filter", "add", "dev", "eth0", "egress"];
    run(lab.host.command("tc").args(add).args(bytecode));
    let xdp = lab.host.enter(|| {
        let ifindex = nix::net::if_::if_nametoindex("eth0").expect("eth0");
        bench::let_through(ifindex).expect("an XDP program")
    });
    let said = programs(&datapath);
    assert_eq!(said.len(), 2, "{said:?}");
    for parts in [
        [
            "eth0, XDP: program ",
            "`ip link set dev eth0 xdp off` takes it off",
        ],
        ["eth0, clsact: filters of others", "takes them off"],
    ] {
        let found = said
            .iter()
            .any(|line| line.starts_with("note") && parts.iter().all(|part| line.contains(part)));
        assert!(found, "{parts:?} in {said:?}");
    }
    tc("filter del dev eth0 egress");
    drop(xdp);
    assert_eq!(programs(&datapath), before);
}
