//! An engine that says what a test tells it to say: for the answers of engines that cannot be had here, and for those
//! that no engine should give.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

/// `GET /version` of Docker 28, as far as it matters.
pub const VERSION_28: &str = r#"{"Platform":{"Name":"Docker Engine - Community"},"Version":"28.5.1",
    "ApiVersion":"1.51","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64"}"#;

/// The engine. Its socket goes when it is dropped.
#[derive(Debug)]
pub struct FakeEngine {
    dir: tempfile::TempDir,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug)]
struct Told {
    version: String,
    networks: String,
    containers: String,
    /// What it says of single containers, by their ids; `None` for nothing, not even that there is none.
    inspected: HashMap<String, Option<String>>,
    /// The requests until now.
    asked: Vec<String>,
    /// Who follows its events.
    followers: Vec<UnixStream>,
    /// Who waits for an answer that does not come.
    waiting: Vec<UnixStream>,
    /// It takes connections and says nothing.
    mute: bool,
}

impl FakeEngine {
    /// One without networks and containers.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let told = Told {
            version: VERSION_28.to_owned(),
            networks: "[]".to_owned(),
            containers: "[]".to_owned(),
            inspected: HashMap::new(),
            asked: Vec::new(),
            followers: Vec::new(),
            waiting: Vec::new(),
            mute: false,
        };
        let engine = Self {
            dir,
            told: Arc::new(Mutex::new(told)),
        };
        let listener = UnixListener::bind(engine.socket()).expect("the engine's socket");
        let told = engine.told.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let told = told.clone();
                // Who hangs up early wants no answer.
                thread::spawn(move || serve(stream, &told).ok());
            }
        });
        engine
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// The configuration that names it.
    #[must_use]
    pub fn section(&self) -> String {
        let socket: &Path = &self.socket();
        format!("socket = {socket:?}")
    }

    /// What it says of its version from now on.
    pub fn is(&self, version: &str) {
        version.clone_into(&mut self.told().version);
    }

    /// What it lists from now on. Nobody is told that it is another list.
    pub fn lists(&self, networks: &str, containers: &str) {
        let mut told = self.told();
        networks.clone_into(&mut told.networks);
        containers.clone_into(&mut told.containers);
    }

    /// What it says of a container that it is asked about, if it says anything.
    pub fn says_of(&self, id: &str, what: Option<&str>) {
        let what = what.map(ToOwned::to_owned);
        self.told().inspected.insert(id.to_owned(), what);
    }

    /// Takes connections and says nothing more, or speaks again.
    pub fn mute(&self, mute: bool) {
        self.told().mute = mute;
    }

    /// Tells everybody who follows something, such as an event. They are counted.
    pub fn tells(&self, event: &str) -> usize {
        let chunk = format!("{:x}\r\n{event}\n\r\n", event.len() + 1);
        // Whoever does not read at the moment may be waiting for a listing.
        let mut followers = std::mem::take(&mut self.told().followers);
        followers.retain_mut(|stream| stream.write_all(chunk.as_bytes()).is_ok());
        let count = followers.len();
        self.told().followers.extend(followers);
        count
    }

    /// Hangs up on everybody who follows its events, or waits for an answer.
    pub fn hangs_up(&self) {
        let mut told = self.told();
        let waiting = std::mem::take(&mut told.waiting);
        for stream in told.followers.drain(..).chain(waiting) {
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
    }

    /// What it was asked for since this was called last.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.told().asked)
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("nobody panics with it")
    }
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

/// Answers the requests of one connection.
fn serve(stream: UnixStream, told: &Mutex<Told>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut answers = stream;
    loop {
        let mut request = String::new();
        if lines.read_line(&mut request)? == 0 {
            return Ok(());
        }
        loop {
            let mut header = String::new();
            lines.read_line(&mut header)?;
            if header.trim().is_empty() {
                break;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut told = told.lock().expect("nobody panics with it");
        told.asked.push(path.clone());
        if told.mute {
            told.waiting.push(answers.try_clone()?);
            continue;
        }
        // Behind the version: `/v1.51/networks`.
        let what = match path
            .strip_prefix("/v")
            .and_then(|path| path.split_once('/'))
        {
            Some((version, what)) if version.parse::<f32>().is_ok() => what,
            _ => path.trim_start_matches('/'),
        };
        let body = match what.split('?').next().unwrap_or_default() {
            "events" => {
                answers.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                told.followers.push(answers);
                return Ok(());
            }
            "version" => told.version.clone(),
            "networks" => told.networks.clone(),
            "containers/json" => told.containers.clone(),
            other => {
                let id = other
                    .strip_prefix("containers/")
                    .and_then(|rest| rest.strip_suffix("/json"));
                match id.and_then(|id| told.inspected.get(id)) {
                    Some(Some(said)) => said.clone(),
                    Some(None) => continue,
                    None => {
                        answers.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 26\r\n\r\n{\"message\":\"nothing here\"}")?;
                        continue;
                    }
                }
            }
        };
        drop(told);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        answers.write_all(head.as_bytes())?;
        answers.write_all(body.as_bytes())?;
    }
}
