//! What `docker run -p` promises, from the network, with nothing in netfilter and no proxy.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use datapath_tests::lab::{
    Datapath, DockerLab, Netns, run, tcp_exchange, udp_exchange, wait_until,
};

/// How long after the engine's answer a port may take to open or to close, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(2);

fn lab() -> (DockerLab, Datapath) {
    let lab = DockerLab::new();
    let datapath = Datapath::following(&lab, "");
    (lab, datapath)
}

/// Fetches the page from the LAN.
pub(crate) fn fetches(lab: &DockerLab, port: u16) -> bool {
    gets_page(&lab.lan, &format!("http://203.0.113.2:{port}/"))
}

/// Fetches the page from the LAN, however long it takes: once, and a connection that is lost is lost.
pub(crate) fn serves(lab: &DockerLab, port: u16) -> bool {
    let at = format!("203.0.113.2:{port}");
    let page = tcp_exchange(&lab.lan, &at, b"GET / HTTP/1.0\r\n\r\n".to_vec());
    page.is_ok_and(|page| String::from_utf8_lossy(&page).contains("It works!"))
}

/// Tries once, and not for long: before the port is published the engine's own listener takes the connection, and
/// never answers.
fn gets_page(netns: &Netns, url: &str) -> bool {
    let mut curl = netns.command("curl");
    let output = curl
        .args(["-s", "--max-time", "0.1", url])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).contains("It works!")
}

/// Waits for something that has to come soon, and says how long it took.
fn soon(what: &str, holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    wait_until(what, holds);
    start.elapsed()
}

#[test]
fn ports_of_every_kind_answer_and_close_with_their_container() {
    let (lab, datapath) = lab();
    let docker = &lab.docker;
    docker.run("fixed", &["-p", "8080:80"], &[]);
    let opened = soon("the port", || fetches(&lab, 8080));
    docker.run("any", &["-p", "80"], &[]);
    let any = docker.port("any", "80/tcp");
    soon("the engine's own choice", || fetches(&lab, any));
    docker.run("range", &["-p", "7000-7003:80-83"], &[]);
    soon("the first of a range", || fetches(&lab, 7000));
    docker.run_udp("names", &["-p", "203.0.113.2:5300:53/udp"]);
    let answer = || udp_exchange(&lab.lan, "203.0.113.2:5300", "who?").unwrap_or_default();
    soon("a datagram", || answer().contains("names"));
    docker.run("own", &["-p", "127.0.0.1:9000:80"], &[]);
    soon("the host itself", || {
        gets_page(&lab.host, "http://127.0.0.1:9000/")
    });
    assert!(
        !fetches(&lab, 9000),
        "a port on the loopback address answers the network"
    );

    docker.stop("fixed");
    // An attempt that nobody answers is given up early: a second SYN would come a second later.
    let attempt = || {
        let to = SocketAddr::from(([203, 0, 113, 2], 8080));
        TcpStream::connect_timeout(&to, Duration::from_millis(20))
    };
    let refused = || {
        let answer = lab.lan.enter(attempt);
        answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    let closed = soon("the port to close", refused);
    assert!(
        opened < SOON && closed < SOON,
        "opened in {opened:?}, closed in {closed:?}"
    );
    assert_eq!(docker.processes("docker-proxy"), 0);
    for judge in [
        &["iptables-save"][..],
        &["iptables-legacy-save"],
        &["nft", "list", "ruleset"],
    ] {
        let rules = run(lab.host.command(judge[0]).args(&judge[1..])).stdout;
        let rules = String::from_utf8_lossy(&rules).into_owned();
        assert!(
            !rules.contains("-A ") && !rules.contains("chain"),
            "{rules}"
        );
    }
    let status = String::from_utf8(datapath.cli(&["status", "--json"]).stdout).unwrap();
    assert!(
        status.contains("\"docker\": true") || status.contains("\"docker\":true"),
        "{status}"
    );
}

#[test]
fn a_container_goes_out_with_the_hosts_address_and_other_networks_do_not_see_it() {
    let (lab, _datapath) = lab();
    let docker = &lab.docker;
    docker.ask(&["network", "create", "blue"]);
    docker.run("web", &[], &[]);
    docker.run("blue", &["--network", "blue"], &[]);
    let (web, blue) = (docker.netns("web"), docker.netns("blue"));
    for netns in [&web, &blue] {
        wait_until("the way out", || {
            let mut ping = netns.command("ping");
            ping.args(["-c1", "-W1", "203.0.113.9"])
                .output()
                .unwrap()
                .status
                .success()
        });
    }
    let url = |name, network| format!("http://{}/", docker.address(name, network));
    for (one, url) in [(&web, url("blue", "blue")), (&blue, url("web", "bridge"))] {
        assert!(gets_page(&lab.host, &url), "{url} serves nobody");
        let mut curl = one.command("curl");
        let output = curl.args(["-s", "--max-time", "1", &url]).output();
        assert!(
            !output.unwrap().status.success(),
            "one network reaches the other: {url}"
        );
    }
}

#[test]
fn a_container_that_comes_back_with_another_address_gets_the_next_datagram() {
    let (lab, _datapath) = lab();
    let docker = &lab.docker;
    docker.run_udp("first", &["-p", "5300:53/udp"]);
    // A client that goes on asking from one socket, as a resolver's would: its flow must not outlive the container.
    let socket = lab.lan.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.connect("203.0.113.2:5300").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let answer = || {
        let mut buffer = [0; 64];
        // A port that nobody has answers with an error.
        drop(socket.send(b"who?"));
        let length = socket.recv(&mut buffer).unwrap_or_default();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    wait_until("the first", || answer().contains("first"));
    docker.ask(&["rm", "-f", "first"]);
    docker.run("holder", &[], &[]);
    docker.run_udp("second", &["-p", "5300:53/udp"]);
    assert_ne!(docker.address("second", "bridge").to_string(), "172.17.0.2");
    let took = soon("the second", || answer().contains("second"));
    assert!(took < SOON, "{took:?}");
}

#[test]
fn traffic_goes_on_while_the_engine_is_away() {
    let (mut lab, mut datapath) = lab_with_live_restore();
    lab.docker.run("web", &["-p", "8080:80"], &[]);
    wait_until("the port", || fetches(&lab, 8080));
    lab.docker.end("TERM");
    assert!(serves(&lab, 8080));
    // A service that starts meanwhile cannot ask, and takes nothing away.
    datapath.kill();
    datapath.restart();
    assert!(serves(&lab, 8080));
    // But whoever else asks for a port still gets it, and gets rid of it.
    let address = "172.17.0.2";
    assert!(
        datapath
            .cli(&["publish", "9100:80", "--to", address])
            .status
            .success()
    );
    assert!(serves(&lab, 9100));
    assert!(datapath.cli(&["unpublish", "9100"]).status.success());
    assert!(!fetches(&lab, 9100), "a withdrawn port answers");
    lab.docker.start();
    lab.docker.run("more", &["-p", "8081:80"], &[]);
    wait_until("the engine is followed again", || fetches(&lab, 8081));
    assert!(serves(&lab, 8080));
}

fn lab_with_live_restore() -> (DockerLab, Datapath) {
    let lab = DockerLab::with_flags(&["--live-restore"]);
    let datapath = Datapath::following(&lab, "");
    (lab, datapath)
}
