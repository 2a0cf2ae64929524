//! The walk that everybody knows from articles on Docker's networking, on our datapath: every step is a real
//! command on a real engine, and is checked.

mod capture;
mod stage;

use std::time::Instant;

use anyhow::{Result, ensure};

use self::{capture::Capture, stage::Stage};

/// Walks it from the first step to the last. Whatever happens, nothing of it is left behind.
///
/// # Errors
/// The first step that does not hold, with what was seen.
pub fn walk() -> Result<()> {
    let start = Instant::now();
    let stage = Stage::build();
    publish(&stage)?;
    go_out(&stage)?;
    come_in(&stage)?;
    from_within(&stage)?;
    look_inside(&stage)?;
    nothing_else(&stage)?;
    close(&stage)?;
    drop(stage);
    stage::say(&format!(
        "\nThat was all of it, in {:.0} s, and nothing is left behind.",
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn publish(stage: &Stage) -> Result<()> {
    stage::title("Two containers publish a port, one of its own choice and one of the engine's");
    stage.docker(&["run", "-d", "--name", "web", "-p", "8080:80", "httpd"])?;
    stage.docker(&["run", "-d", "--name", "any", "-p", "80", "httpd"])?;
    let format = "table {{.Names}}\t{{.Image}}\t{{.Ports}}";
    let listed = stage.docker(&["ps", "--format", format])?;
    ensure!(
        listed.contains("0.0.0.0:8080->80/tcp"),
        "docker ps said: {listed}"
    );
    let port = stage.docker(&["port", "any"])?;
    ensure!(
        port.contains("80/tcp -> 0.0.0.0:"),
        "docker port said: {port}"
    );
    stage::holds("the engine works as always");
    Ok(())
}

fn go_out(stage: &Stage) -> Result<()> {
    stage::title("A container goes out: 172.17.0.2 on its bridge, the host's address on the wire");
    let inside = Capture::start(&stage.lab.host, "docker0");
    let outside = Capture::start(&stage.lab.host, "eth0");
    let web = stage.lab.docker.netns("web");
    let pinged = stage.inside(
        &web,
        "web",
        &["ping", "-c", "2", "-i", "0.2", "-W", "2", "203.0.113.9"],
    )?;
    ensure!(pinged.contains(" 0% packet loss"), "ping said: {pinged}");
    let fetched = stage.inside(
        &web,
        "web",
        &["curl", "-s", "--max-time", "3", "http://203.0.113.9:8000/"],
    )?;
    ensure!(
        fetched.contains("203.0.113.2"),
        "the server saw another client: {fetched}"
    );
    let (inside, outside) = (inside.end(), outside.end());
    capture::beside("docker0", &inside, "eth0, the uplink", &outside);
    ensure!(
        inside
            .iter()
            .any(|line| line.contains("172.17.0.2 > 203.0.113.9")),
        "docker0 did not show the container"
    );
    ensure!(
        outside
            .iter()
            .any(|line| line.contains("203.0.113.2 > 203.0.113.9")),
        "the uplink did not show the host"
    );
    ensure!(
        !outside.iter().any(|line| line.contains("172.17.")),
        "a container's address left the host"
    );
    stage::holds(
        "no container's address on the uplink (once a way is known, packets pass by the bridge too)",
    );
    Ok(())
}

fn come_in(stage: &Stage) -> Result<()> {
    stage::title("A neighbour on the network asks for the published ports");
    for port in [8080, stage.lab.docker.port("any", "80/tcp")] {
        let url = format!("http://203.0.113.2:{port}/");
        let page = stage.inside(
            &stage.lab.lan,
            "lan",
            &["curl", "-s", "--max-time", "3", &url],
        )?;
        ensure!(page.contains("It works!"), "{url} answered: {page}");
    }
    let log = stage.docker(&["logs", "web"])?;
    ensure!(
        log.contains("203.0.113.9"),
        "the container saw another client: {log}"
    );
    stage::holds("both answer, and the container's log has the client's real address");
    Ok(())
}

fn from_within(stage: &Stage) -> Result<()> {
    stage::title("So do the host itself, and another container");
    let local = ["curl", "-s", "--max-time", "3", "http://127.0.0.1:8080/"];
    let page = stage.inside(&stage.lab.host, "host", &local)?;
    ensure!(
        page.contains("It works!"),
        "127.0.0.1:8080 answered: {page}"
    );
    let any = stage.lab.docker.netns("any");
    let hairpin = ["curl", "-s", "--max-time", "3", "http://203.0.113.2:8080/"];
    let page = stage.inside(&any, "any", &hairpin)?;
    ensure!(
        page.contains("It works!"),
        "203.0.113.2:8080 answered a container: {page}"
    );
    stage::holds("127.0.0.1 and the host's own address lead to the container");
    Ok(())
}

fn look_inside(stage: &Stage) -> Result<()> {
    stage::title("What the kernel holds, for everybody to read");
    let ports = stage.datapath(&["ports"])?;
    ensure!(
        ports.contains("0.0.0.0:8080/tcp"),
        "datapath ports said: {ports}"
    );
    let flows = stage.datapath(&["flows"])?;
    ensure!(
        flows.contains("203.0.113.9"),
        "datapath flows said: {flows}"
    );
    for map in ["BINDINGS4", "FLOWS4"] {
        let dumped = stage.dump(map)?;
        ensure!(dumped.contains("\"to\""), "bpftool dumped: {dumped}");
    }
    Ok(())
}

fn nothing_else(stage: &Stage) -> Result<()> {
    stage::title("And what is not there");
    for judge in [&["iptables-save"][..], &["nft", "list", "ruleset"]] {
        let rules = stage.inside(&stage.lab.host, "host", judge)?;
        ensure!(
            !rules.contains("-A ") && !rules.contains("chain"),
            "there are rules: {rules}"
        );
    }
    let proxies = stage.lab.docker.processes("docker-proxy");
    ensure!(proxies == 0, "{proxies} processes of docker-proxy");
    stage::holds("no rule of iptables or nftables, no docker-proxy");
    Ok(())
}

fn close(stage: &Stage) -> Result<()> {
    stage::title("A container that stops takes its port with it");
    stage.docker(&["stop", "-t", "0", "web"])?;
    stage.until_refused(8080);
    stage::holds("connection refused, as from any port that nobody has");
    Ok(())
}
