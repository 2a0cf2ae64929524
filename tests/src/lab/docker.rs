//! A real Docker engine in a lab's host, and containers that it starts.
//!
//! The engine lives in namespaces of its own (mounts, processes, the host's network), so that nothing of it
//! shows on the machine: when the first process of its process namespace ends, the kernel ends them all,
//! containers and their shims too, and every mount with them.

use std::{
    fs::{self, File},
    net::IpAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    Netns, PATIENCE, cleanup::Cleanup, join, run, servers::udp_server, unused_name, wait_until,
};

/// The image that every container here is made of: busybox, and a page to serve.
const IMAGE: &str = "httpd";

/// What a Docker host's `daemon.json` says for datapath.
const FLAGS: [&str; 3] = [
    "--iptables=false",
    "--ip6tables=false",
    "--userland-proxy=false",
];

/// A LAN host and a Docker host whose bridges and containers are the engine's.
///
/// ```text
/// lan 203.0.113.9 ──veth── 203.0.113.2 host (dockerd: docker0, containers)
/// ```
#[derive(Debug)]
pub struct DockerLab {
    /// Its name: the beginning of every name in it.
    pub name: String,
    /// The engine.
    pub docker: Docker,
    // Before the namespaces: it ends what runs in them.
    _cleanup: Cleanup,
    /// A host on the network outside.
    pub lan: Netns,
    /// The Docker host.
    pub host: Netns,
}

/// The engine.
#[derive(Debug)]
pub struct Docker {
    dir: PathBuf,
    cgroup: String,
    flags: Vec<String>,
    /// The first process of the engine's namespaces, and the `unshare` that made them.
    init: u32,
    keeper: Child,
    /// `nsenter`, which waits for dockerd.
    dockerd: Option<Child>,
}

impl DockerLab {
    /// Builds it, with an engine that runs and has its image.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "it makes namespaces: nobody should by default"
    )]
    pub fn new() -> Self {
        Self::with_flags(&[])
    }

    /// The same, with more flags for dockerd.
    #[must_use]
    pub fn with_flags(flags: &[&str]) -> Self {
        Self::with(&[&FLAGS, flags].concat())
    }

    /// With an engine as it is installed: it writes iptables rules, and starts proxies.
    #[must_use]
    pub fn stock() -> Self {
        Self::with(&[])
    }

    fn with(flags: &[&str]) -> Self {
        let name = unused_name();
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir(&dir).expect("a directory for the engine");
        let cleanup = Cleanup::stand_by(&cleanup(&name, &dir));
        let (lan, host) = (Netns::new(&name, "lan"), Netns::new(&name, "host"));
        join(&host, &lan);
        let docker = Docker::new(&host, dir, &name, flags);
        Self {
            name,
            docker,
            _cleanup: cleanup,
            lan,
            host,
        }
    }
}

/// Everything that a lab of this name may leave. Its names and places are nobody else's.
fn cleanup(name: &str, dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "for netns in $(ip netns list | grep -o '^{name}-[^ ]*'); do
           for pid in $(ip netns pids $netns); do kill -9 $pid; done
           ip netns del $netns
         done
         rm -rf /sys/fs/bpf/{name}
         for cgroup in $(awk '$3 == \"cgroup2\" {{ print $2 }}' /proc/mounts); do
           find $cgroup/{name} -depth -type d -exec rmdir {{}} \\;
         done
         rm -rf {dir}"
    )
}

impl Docker {
    fn new(host: &Netns, dir: PathBuf, cgroup: &str, flags: &[&str]) -> Self {
        let at = dir.display();
        fs::create_dir(dir.join("data")).expect("a directory");
        // Without the key's place dockerd would write it to /etc/docker.
        let key = format!("{{\"deprecated-key-path\": \"{at}/data/key.json\"}}");
        fs::write(dir.join("daemon.json"), key).expect("the engine's configuration");
        // A child whose end nobody waits for must leave no zombie: a dockerd that starts after one that was killed
        // would take its containerd for alive. (A shell's own `trap '' CHLD` does not ignore the signal.)
        let script = format!(
            "mount -t tmpfs none /run && mount -t tmpfs none {at}/data \
             && umount -R -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup \
             && touch {at}/ready && exec env --ignore-signal=CHLD sleep infinity"
        );
        let keeper = host
            .command("unshare")
            .args(["--mount", "--propagation", "private"])
            .args(["--pid", "--fork", "--mount-proc", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stderr(File::create(dir.join("keeper.log")).expect("a log"))
            .spawn()
            .expect("unshare");
        let ready = dir.join("ready");
        wait_until("the engine's namespaces", || ready.exists());
        let children = format!("/proc/{0}/task/{0}/children", keeper.id());
        let children = fs::read_to_string(children).expect("the keeper's children");
        let mut docker = Self {
            init: children.trim().parse().expect("the keeper has one child"),
            dir,
            cgroup: cgroup.to_owned(),
            flags: flags.iter().map(ToString::to_string).collect(),
            keeper,
            dockerd: None,
        };
        docker.start();
        docker.import();
        docker
    }

    /// Starts dockerd, and waits until it answers.
    pub fn start(&mut self) {
        let at = self.dir.display().to_string();
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.dir.join("dockerd.log"))
            .expect("the engine's log");
        let dockerd = self
            .inside("dockerd")
            .args(&self.flags)
            .arg(format!("--config-file={at}/daemon.json"))
            .arg(format!("--host=unix://{at}/docker.sock"))
            .arg(format!("--data-root={at}/data/docker"))
            .arg(format!("--exec-root={at}/data/exec"))
            .arg(format!("--pidfile={at}/data/pid"))
            .arg(format!("--cgroup-parent=/{}", self.cgroup))
            .arg("--containerd=")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the engine's log"))
            .stderr(log)
            .spawn()
            .expect("dockerd");
        self.dockerd = Some(dockerd);
        // One that was killed first ends the containers that it left, and gives each ten seconds.
        let deadline = Instant::now() + 6 * PATIENCE;
        while !self.cli(&["version"]).status.success() {
            assert!(
                Instant::now() < deadline,
                "no answer from the engine, whose log ends:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of the engine's log.
    fn log(&self) -> String {
        const SHOWN: usize = 30;
        let log = fs::read_to_string(self.dir.join("dockerd.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }

    /// Ends dockerd with a signal, as `kill` names it, and waits for its end.
    pub fn end(&mut self, signal: &str) {
        let at = format!("{}/data", self.dir.display());
        run(self
            .inside("sh")
            .args(["-c", &format!("kill -{signal} $(cat {at}/pid)")]));
        if let Some(mut dockerd) = self.dockerd.take() {
            dockerd.wait().expect("dockerd ends");
        }
    }

    /// A command in the engine's namespaces.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string()])
            .args(["--mount", "--pid", "--net", program]);
        command
    }

    fn import(&self) {
        let root = self.dir.join("image");
        for dir in ["bin", "www", "tmp"] {
            fs::create_dir_all(root.join(dir)).expect("a directory of the image");
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|file| Path::new(file).exists())
            .expect("busybox is installed");
        fs::copy(busybox, root.join("bin/busybox")).expect("busybox");
        let applets = run(Command::new(busybox).arg("--list")).stdout;
        for applet in String::from_utf8_lossy(&applets).lines() {
            if applet != "busybox" {
                symlink("busybox", root.join("bin").join(applet)).expect("an applet");
            }
        }
        fs::write(
            root.join("www/index.html"),
            "<html><body><h1>It works!</h1></body></html>\n",
        )
        .expect("the page");
        let mut tar = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .args(["-c", "."])
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar");
        run(self
            .client()
            .args(["import", "--change", "EXPOSE 80", "--change"])
            .arg(r#"CMD ["/bin/httpd", "-f", "-vv", "-p", "80", "-h", "/www"]"#)
            .args(["-", IMAGE])
            .stdin(tar.stdout.take().expect("tar's output")));
        tar.wait().expect("tar ends");
    }

    /// Docker's client, talking to this engine.
    #[must_use]
    pub fn client(&self) -> Command {
        let mut command = Command::new("docker");
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_CONFIG", self.dir.join("client"))
            .env("DOCKER_CLI_HINTS", "false");
        command
    }

    /// Runs the client.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut client = self.client();
        client.args(arguments).output().expect("docker starts")
    }

    /// Runs the client, which must succeed, and returns what it said.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let output = run(self.client().args(arguments));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// `docker run -d --name NAME OPTIONS IMAGE COMMAND`; the image serves a page on port 80 by itself.
    pub fn run(&self, name: &str, options: &[&str], command: &[&str]) {
        let mut client = self.client();
        client.args(["run", "-d", "--name", name]);
        run(client.args(options).arg(IMAGE).args(command));
    }

    /// A container whose UDP server answers every datagram with its own name.
    pub fn run_udp(&self, name: &str, options: &[&str]) {
        self.run(name, options, &["sleep", "infinity"]);
        udp_server(&self.netns(name), "0.0.0.0:53", name);
    }

    /// Stops a container at once.
    pub fn stop(&self, name: &str) {
        self.ask(&["stop", "-t", "0", name]);
    }

    /// The host's port that `docker port` tells for one of the container's, such as `80/tcp`.
    #[must_use]
    pub fn port(&self, name: &str, port: &str) -> u16 {
        let said = self.ask(&["port", name, port]);
        let port = said.lines().next().and_then(|line| line.rsplit(':').next());
        port.and_then(|port| port.parse().ok())
            .unwrap_or_else(|| panic!("docker port said: {said}"))
    }

    /// What `docker inspect -f FORMAT` says.
    #[must_use]
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.ask(&["inspect", "-f", format, name])
    }

    /// A container's address in a network.
    #[must_use]
    pub fn address(&self, name: &str, network: &str) -> IpAddr {
        let format = format!("{{{{ (index .NetworkSettings.Networks \"{network}\").IPAddress }}}}");
        let said = self.inspect(name, &format);
        said.parse()
            .unwrap_or_else(|_| panic!("{name} in {network}: {said}"))
    }

    /// A container's network namespace.
    #[must_use]
    pub fn netns(&self, name: &str) -> Netns {
        let pid = self.inspect(name, "{{ .State.Pid }}");
        // Its process as the engine counts it, so through the engine's own /proc.
        let path = format!("/proc/{}/root/proc/{pid}/ns/net", self.init);
        Netns::borrowed(name, PathBuf::from(path))
    }

    /// The engine's configuration file.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.dir.join("daemon.json")
    }

    /// The engine's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// How many processes of that name there are in the engine's namespaces.
    #[must_use]
    pub fn processes(&self, name: &str) -> usize {
        self.pids(name).len()
    }

    /// The processes of that name in the engine's namespaces, by their ids outside.
    #[must_use]
    pub fn pids(&self, name: &str) -> Vec<u32> {
        let inside =
            fs::read_link(format!("/proc/{}/ns/pid", self.init)).expect("the engine's processes");
        // The kernel keeps 15 bytes of a name.
        let name = name.get(..15).unwrap_or(name);
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        let found = all.filter(|entry| {
            let at = entry.path();
            fs::read_to_string(at.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
                && fs::read_link(at.join("ns/pid")).is_ok_and(|namespace| namespace == inside)
        });
        found
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let init = self.init.to_string();
        drop(Command::new("kill").args(["-9", &init]).output());
        drop(self.keeper.wait());
        if let Some(mut dockerd) = self.dockerd.take() {
            drop(dockerd.wait());
        }
    }
}
