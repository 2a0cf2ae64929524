//! The metrics, as Prometheus would read them: well formed, documented, and the same numbers as everywhere else.

use std::{
    io::Write as _,
    net::TcpListener,
    process::{Command, Stdio},
};

use datapath_tests::lab::{Datapath, Lab, run};
use datapath_user::metrics::METRICS;
use serde_json::Value;

use crate::talk::{self, Talk};

const CONFIG: &str = "[[publish]]\nlisten = \"0.0.0.0:8080\"\nto = \"172.17.0.2:80\"\n[metrics]\nlisten = \"127.0.0.1:9464\"\n";

/// What is answered to whoever takes this type, and the type of the answer.
fn scrape(lab: &Lab, accept: &str) -> (String, String) {
    let output = run(lab.host.command("curl").args([
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "10",
        "--header",
        &format!("Accept: {accept}"),
        "--write-out",
        "%{stderr}%{content_type}",
        "http://127.0.0.1:9464/metrics",
    ]));
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr))
}

/// The value of a sample whose line begins so.
fn value(text: &str, begin: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(begin));
    let line = line.unwrap_or_else(|| panic!("{begin}: not in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn prometheus_reads_what_the_maps_hold() {
    let lab = Lab::new();
    let datapath = Datapath::start(&lab, CONFIG);
    talk::serve(&lab.container, "0.0.0.0:80");
    for _ in 0..3 {
        Talk::open(&lab.lan, "203.0.113.2:8080").unwrap();
    }
    let ports: Value = serde_json::from_slice(&datapath.cli(&["ports", "--json"]).stdout).unwrap();
    let (plain, kind) = scrape(&lab, "text/plain");
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(plain.as_bytes())
        .unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(
        checked.status.success() && checked.stderr.is_empty() && checked.stdout.is_empty(),
        "{checked:?}\n{plain}"
    );

    for metric in METRICS {
        let (name, kind) = (metric.sample_name(), metric.kind.name());
        assert!(
            plain.contains(&format!("# TYPE {name} {kind}\n")),
            "{name}: {plain}"
        );
        // Docker is not followed here, and says nothing of itself.
        let absent = name == "datapath_docker_connected";
        let has = plain.lines().any(|line| line.starts_with(&name));
        assert_eq!(has, !absent, "{name}: {plain}");
    }
    let port = r#"{address="0.0.0.0",port="8080",protocol="tcp",source="file",owner="file"}"#;
    assert_eq!(ports["ports"][0]["flows"], 3);
    assert_eq!(
        value(&plain, &format!("datapath_port_flows_total{port}")),
        3
    );
    assert_eq!(
        value(
            &plain,
            r#"datapath_packets_total{reason="publish",outcome="translate"}"#
        ),
        3
    );
    assert!(value(&plain, r#"datapath_map_entries{map="FLOWS4"}"#) >= 2);
    assert_eq!(
        value(&plain, r#"datapath_map_capacity{map="FLOWS4"}"#),
        524_288
    );
    assert_eq!(value(&plain, "datapath_ready "), 1);
    assert_eq!(value(&plain, "datapath_reconcile_errors_total "), 0);

    let (open, kind) = scrape(&lab, "application/openmetrics-text; version=1.0.0");
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(open.ends_with("# EOF\n"), "{open}");
    assert!(open.contains("# TYPE datapath_packets counter\n"), "{open}");
}

#[test]
fn nothing_listens_unasked_and_a_taken_port_is_named() {
    let lab = Lab::new();
    let mut datapath = Datapath::start(&lab, "");
    let mut curl = lab.host.command("curl");
    let answered = curl.args([
        "--silent",
        "--max-time",
        "5",
        "http://127.0.0.1:9464/metrics",
    ]);
    assert!(!answered.output().unwrap().status.success());
    datapath.kill();
    let file = datapath.api_socket().with_file_name("metrics.toml");
    std::fs::write(
        &file,
        format!(
            "pin_dir = {:?}\napi_socket = {:?}\nuplinks = [\"eth0\"]\n[docker]\nenabled = false\n[metrics]\nlisten = \"127.0.0.1:9464\"\n",
            datapath.pins(),
            datapath.api_socket()
        ),
    )
    .unwrap();
    let listener = lab
        .host
        .enter(|| TcpListener::bind("127.0.0.1:9464").unwrap());
    let output = lab
        .host
        .command("timeout")
        .arg("20")
        .args(datapath.command(&["run"]).get_args().skip(1).take(1))
        .args(["run", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    drop(listener);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("metrics.listen: 127.0.0.1:9464: cannot be had"),
        "{said}"
    );
}
