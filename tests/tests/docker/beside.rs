//! The service starts beside an engine that still does everything itself, as on a host that is moved over: whoever is
//! connected stays connected.

use datapath_tests::lab::{
    Datapath, DockerLab, run,
    talk::{self, Talk},
    wait_until,
};

/// Connections that are open, and who has them.
struct Held(Vec<(&'static str, Talk)>);

impl Held {
    fn assert_alive(&mut self, when: &str) {
        for (who, talk) in &mut self.0 {
            let answer = talk.ask();
            assert!(answer.is_ok(), "{who}, {when}: {answer:?}");
        }
    }
}

/// The flows that datapath has to the published port.
fn flows(datapath: &Datapath) -> usize {
    let flows = run(&mut datapath.command(&["flows", "--nat", "published"])).stdout;
    String::from_utf8_lossy(&flows)
        .matches("dport=8080 ")
        .count()
}

#[test]
fn connections_from_before_stay_while_the_engines_rules_stand() {
    let lab = DockerLab::stock();
    for (netns, address) in [(&lab.host, "2001:db8::2/64"), (&lab.lan, "2001:db8::9/64")] {
        netns.ip(&format!("addr add {address} dev eth0 nodad"));
    }
    lab.docker
        .run("web", &["-p", "8080:7"], &["sleep", "infinity"]);
    lab.docker.run("other", &[], &["sleep", "infinity"]);
    let (web, other) = (lab.docker.netns("web"), lab.docker.netns("other"));
    talk::serve(&web, "0.0.0.0:7");
    talk::serve(&lab.lan, "0.0.0.0:7");
    // By the engine's DNAT, by its proxies, and by its masquerade.
    let ways = [
        ("a host outside", &lab.lan, "203.0.113.2:8080"),
        ("a host outside, by IPv6", &lab.lan, "[2001:db8::2]:8080"),
        ("the host itself", &lab.host, "127.0.0.1:8080"),
        ("another container", &other, "203.0.113.2:8080"),
        ("a container that goes out", &web, "203.0.113.9:7"),
    ];
    let open = |(who, from, to): (&'static str, _, &str)| {
        let mut talk = None;
        wait_until(who, || {
            talk = Talk::open(from, to).ok();
            talk.is_some()
        });
        (who, talk.expect("it was opened"))
    };
    let mut held = Held(ways.map(open).into());
    let mut datapath = Datapath::following(&lab, "");
    held.assert_alive("with the service");
    // Those that come now are datapath's.
    assert_eq!(flows(&datapath), 0);
    let mut young = Held(vec![open(ways[0])]);
    assert_eq!(flows(&datapath), 1);
    // Through the service's absence, and another one.
    datapath.kill();
    held.assert_alive("without the service");
    datapath.restart();
    held.assert_alive("with another one");
    young.assert_alive("with another one");
    // A port that is closed to somebody stays so, whatever he sends.
    lab.docker.stop("web");
    wait_until("nobody there", || Talk::open(&lab.lan, ways[0].2).is_err());
}
