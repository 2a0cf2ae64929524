//! The program under test, running in a lab's host from a configuration file.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{DockerLab, Lab, PATIENCE, run, wait_until};

/// Ports of the lab's container that most tests publish, in both families.
pub const PORTS: &str = r#"
[[publish]]
listen = "0.0.0.0:8080"
to = "172.17.0.2:80"
protocol = "tcp"
[[publish]]
listen = "0.0.0.0:5300"
to = "172.17.0.2:53"
protocol = "udp"
[[publish]]
listen = "[::]:8080"
to = "[fd00:17::2]:80"
protocol = "tcp"
[[publish]]
listen = "[::]:5300"
to = "[fd00:17::2]:53"
protocol = "udp"
"#;

/// The running service. When dropped, it is ended and everything is taken out of the kernel.
#[derive(Debug)]
pub struct Datapath {
    netns: String,
    config: PathBuf,
    pins: PathBuf,
    child: Child,
    /// What the service has said.
    log: Arc<Mutex<String>>,
    _dir: tempfile::TempDir,
}

impl Datapath {
    /// Starts it and waits until it is active. `config` is what follows the places and the network.
    #[must_use]
    pub fn start(lab: &Lab, config: &str) -> Self {
        Self::start_with(lab, "", config)
    }

    /// Starts it with `keys` at the top of its file, before all tables. The uplink is eth0, unless they say so.
    #[must_use]
    pub fn start_with(lab: &Lab, keys: &str, config: &str) -> Self {
        Self::configured(lab, keys, "enabled = false", config)
    }

    /// Starts it with a line of its own about the uplinks.
    #[must_use]
    pub fn start_on(lab: &Lab, uplinks: &str, config: &str) -> Self {
        let network = "[[network]]\nbridge = \"docker0\"\nsubnets = [\"172.17.0.0/16\"]";
        let config = format!("{uplinks}\n[docker]\nenabled = false\n{network}\n{config}");
        Self::on(&lab.name, lab.host.name(), &config)
    }

    /// Starts it with this `[docker]` section.
    #[must_use]
    pub fn beside(lab: &Lab, docker: &str) -> Self {
        Self::configured(lab, "", docker, "")
    }

    /// Starts it with this file, which says all but the places.
    #[must_use]
    pub fn plain(lab: &Lab, config: &str) -> Self {
        Self::on(&lab.name, lab.host.name(), config)
    }

    fn configured(lab: &Lab, keys: &str, docker: &str, config: &str) -> Self {
        let network =
            "[[network]]\nbridge = \"docker0\"\nsubnets = [\"172.17.0.0/16\", \"fd00:17::/64\"]";
        let uplinks = if keys.contains("uplinks") {
            ""
        } else {
            "uplinks = [\"eth0\"]"
        };
        let config = format!("{uplinks}\n{keys}\n[docker]\n{docker}\n{network}\n{config}");
        Self::on(&lab.name, lab.host.name(), &config)
    }

    /// Starts it beside an engine, which it follows. `config` is what follows the places.
    #[must_use]
    pub fn following(lab: &DockerLab, config: &str) -> Self {
        let config = format!("[docker]\nsocket = {:?}\n{config}", lab.docker.socket());
        Self::on(&lab.name, lab.host.name(), &config)
    }

    fn on(name: &str, netns: &str, config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let pins = Path::new("/sys/fs/bpf").join(name);
        let file = dir.path().join("datapath.toml");
        let api = dir.path().join("api.sock");
        let text = format!("pin_dir = {pins:?}\napi_socket = {api:?}\n{config}");
        fs::write(&file, text).expect("the configuration");
        let log = Arc::default();
        let child = spawn(&binary(), netns, &file, &log);
        let datapath = Self {
            netns: netns.to_owned(),
            config: file,
            pins,
            child,
            log,
            _dir: dir,
        };
        datapath.wait();
        datapath
    }

    fn wait(&self) {
        let seconds = PATIENCE.as_secs().to_string();
        run(&mut self.command(&["status", "--wait", &seconds]));
    }

    /// Runs one of the program's commands on it.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments)
            .output()
            .expect("the program starts")
    }

    /// Ends the service at once, without a chance to clean up.
    pub fn kill(&mut self) {
        self.child.kill().expect("the service runs");
        self.child.wait().expect("the service ends");
    }

    /// Starts another service on the same pins, and waits until it is that one which serves.
    pub fn restart(&mut self) {
        self.restart_as(&binary());
    }

    /// Likewise, of another build of the program.
    pub fn restart_as(&mut self, build: &Path) {
        self.child = spawn(build, &self.netns, &self.config, &self.log);
        // Without a service the datapath is active too.
        wait_until("the new service is ready", || {
            self.serving() == Some(self.child.id())
        });
    }

    /// The process of the service that is ready, if there is one.
    #[must_use]
    pub fn serving(&self) -> Option<u32> {
        let status = self.cli(&["status", "--json"]).stdout;
        let status: Value = serde_json::from_slice(&status).ok()?;
        let service = &status["service"];
        let pid = service["pid"]
            .as_u64()
            .filter(|_| service["ready"] == true)?;
        u32::try_from(pid).ok()
    }

    /// Writes something else in its configuration file.
    pub fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.config).expect("the configuration");
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(&self.config, text.replace(from, to)).expect("the configuration");
    }

    /// The service's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The service's descriptors, and its resident memory in KiB.
    #[must_use]
    pub fn holds(&self) -> (usize, u64) {
        let proc = PathBuf::from("/proc").join(self.pid().to_string());
        let descriptors = fs::read_dir(proc.join("fd")).expect("the service runs");
        let status = fs::read_to_string(proc.join("status")).expect("the service runs");
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .and_then(|number| number.parse().ok());
        (descriptors.count(), resident.expect("proc(5) says so"))
    }

    /// Where its API is.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.config.with_file_name("api.sock")
    }

    /// Everything that the service has said until now.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().expect("nobody panics with it").clone()
    }

    /// The directory of its maps, whatever version they are of.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        datapath_user::kernel::pins::maps(&self.pins)
    }

    /// The pins of its links, and of what else it attached, whose names begin so.
    #[must_use]
    pub fn links(&self, beginning: &str) -> Vec<PathBuf> {
        let pins = fs::read_dir(self.pins.join("links")).expect("the links");
        pins.flatten()
            .filter(|pin| pin.file_name().to_string_lossy().starts_with(beginning))
            .map(|pin| pin.path())
            .collect()
    }

    /// Holds it still while something is done that it would put right at once.
    pub fn frozen(&self, work: impl FnOnce()) {
        self.signal("-STOP");
        // The signal is sent by now; each thread stops when it comes to it.
        wait_until("the service stands still", || self.is_stopped());
        work();
        self.signal("-CONT");
    }

    /// Whether all its threads are stopped (proc(5), state T).
    fn is_stopped(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the service runs");
        tasks.flatten().all(|task| {
            fs::read_to_string(task.path().join("status"))
                .is_ok_and(|status| status.contains("\nState:\tT"))
        })
    }

    /// Sends it a signal, as kill(1) calls it.
    pub fn signal(&self, signal: &str) {
        run(Command::new("kill").args([signal, &self.pid().to_string()]));
    }

    /// Whether it has ended, a moment given.
    pub fn is_dead(&mut self) -> bool {
        for _ in 0..20 {
            if self.child.try_wait().expect("a child").is_some() {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Waits until the service has ended by itself, and says how.
    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().expect("the service ends")
    }

    /// Where it pins.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// One of the program's commands in a mount namespace of its own, by a shell's script that runs it as `"$@"`.
    #[must_use]
    pub fn within(&self, script: &str, arguments: &[&str]) -> Command {
        let ordinary = self.command(arguments);
        let mut words = ordinary.get_args();
        let mut command = Command::new(ordinary.get_program());
        command.args(words.by_ref().take(1));
        command.args(["unshare", "--mount", "sh", "-ec", script, "sh"]);
        command.args(words);
        command
    }

    /// One of the program's commands, to be run on it.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(&binary(), &self.netns);
        command.arg("--config").arg(&self.config).args(arguments);
        command
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        // From here: the namespace may be gone by now, and the pins do not mind.
        let mut detach = Command::new(binary());
        drop(
            detach
                .arg("--config")
                .arg(&self.config)
                .arg("detach")
                .output(),
        );
    }
}

/// Starts the service. What it says is shown, and kept.
fn spawn(build: &Path, netns: &str, config: &Path, log: &Arc<Mutex<String>>) -> Child {
    let mut child = program(build, netns)
        .arg("run")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the service starts");
    let said = BufReader::new(child.stderr.take().expect("its log"));
    let log = log.clone();
    thread::spawn(move || {
        for line in said.lines().map_while(Result::ok) {
            eprintln!("{line}");
            let mut log = log.lock().expect("nobody panics with it");
            log.push_str(&line);
            log.push('\n');
        }
    });
    child
}

/// The program, in a network namespace. `nsenter` becomes the program, so its process is the service's.
fn program(build: &Path, netns: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{netns}")).arg(build);
    command
}

/// The program that the tests are told to use, else the one that was built last.
#[must_use]
fn binary() -> PathBuf {
    match env::var_os("DATAPATH_BIN") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/datapath"),
    }
}
