//! Who comes in: every client gets its own task and a bounded time, and none can keep the others out.

use std::{
    collections::VecDeque,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::{self, JoinHandle},
    task_local,
    time::{self, Instant},
};
use tracing::{debug, warn};

/// How many clients are served at a time. Where one comes too many, the one that has been there for longest is
/// let go, of those whose requests have not arrived whole; unless all of these have hardly come.
const CLIENTS: usize = 256;
/// How long a client may stay in any case, from when it was first looked at: whoever asks something has asked it by
/// then. While all are that new, whoever comes waits before the door.
const GRACE: Duration = Duration::from_millis(50);
/// How long a request's head may take to arrive, and how long a connection may be silent before it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long those inside are given to finish before it is looked again whether there is room.
const TURN: Duration = Duration::from_millis(1);
/// Bytes that are read ahead of one client: hyper would take six times as many, of each of them.
const AHEAD: usize = 64 << 10;
/// How long to wait when the process has no descriptor left for another client.
const BREATH: Duration = Duration::from_millis(100);

/// Where clients come in.
pub(crate) trait Door {
    /// What carries their bytes.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What is known of them.
    type Peer: Clone + Send + Sync + 'static;

    /// Waits for the next one.
    async fn open(&self) -> io::Result<(Self::Stream, Self::Peer)>;
}

impl Door for UnixListener {
    type Stream = UnixStream;
    type Peer = Peer;

    async fn open(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.accept().await?;
        let peer = Peer::of(&stream);
        Ok((stream, peer))
    }
}

impl Door for TcpListener {
    type Stream = TcpStream;
    type Peer = SocketAddr;

    async fn open(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept().await
    }
}

/// A client, as the kernel knows it (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pid: Option<i32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Peer {
    fn of(stream: &UnixStream) -> Self {
        let cred = stream.peer_cred().ok();
        Self {
            pid: cred.and_then(|cred| cred.pid()),
            uid: cred.map(|cred| cred.uid()),
            gid: cred.map(|cred| cred.gid()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |number: Option<i64>| number.map_or_else(|| "?".to_owned(), |n| n.to_string());
        write!(
            f,
            "process {} user {} group {}",
            known(self.pid.map(i64::from)),
            known(self.uid.map(i64::from)),
            known(self.gid.map(i64::from)),
        )
    }
}

/// Serves whoever comes.
///
/// # Errors
/// When the listener fails for good.
pub(crate) async fn serve(door: impl Door, app: Router) -> io::Result<()> {
    let mut clients = Clients::default();
    loop {
        match door.open().await {
            Ok((stream, peer)) => {
                clients.make_room().await;
                clients.admit(attend(stream, app.clone().layer(Extension(peer))));
            }
            // Descriptors or memory: another time, perhaps.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
                ) =>
            {
                warn!("a client has to wait: {error}");
                time::sleep(BREATH).await;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What the door knows of a client.
#[derive(Default)]
struct Guest {
    /// When it was first looked at: one that waits for its turn on a loaded machine is not slow.
    met: OnceLock<Instant>,
    /// Its request has arrived whole, and is worked on.
    asked: AtomicBool,
}

impl Guest {
    fn may_go(&self) -> bool {
        let met = self.met.get();
        met.is_some_and(|met| met.elapsed() >= GRACE) && !self.asked.load(Ordering::Relaxed)
    }
}

task_local! {
    /// The client whom this task serves.
    static GUEST: Arc<Guest>;
}

/// Works on a request that has arrived whole: its client is not let go meanwhile.
pub(crate) async fn answer<T>(work: impl Future<Output = T>) -> T {
    // Whoever is served by no door is let go by none.
    let note = |asked| GUEST.try_with(|guest| guest.asked.store(asked, Ordering::Relaxed));
    let _ = note(true);
    let done = work.await;
    let _ = note(false);
    done
}

async fn attend(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, app: Router) {
    let _ = GUEST.try_with(|guest| guest.met.set(Instant::now()));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(AHEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
        .await;
    if let Err(error) = served {
        debug!("a client: {error}");
    }
}

/// The clients that are being served, the first to come first. They go when this does.
#[derive(Default)]
struct Clients(VecDeque<(Arc<Guest>, JoinHandle<()>)>);

impl Clients {
    async fn make_room(&mut self) {
        loop {
            self.0.retain(|(_, client)| !client.is_finished());
            if self.0.len() < CLIENTS {
                return;
            }
            let slow = self.0.iter().position(|(guest, _)| guest.may_go());
            if let Some((_, client)) = slow.and_then(|place| self.0.remove(place)) {
                client.abort();
                return;
            }
            // Most of them have their answers by then.
            time::sleep(TURN).await;
        }
    }

    fn admit(&mut self, client: impl Future<Output = ()> + Send + 'static) {
        let guest = Arc::<Guest>::default();
        let client = task::spawn(GUEST.scope(Arc::clone(&guest), client));
        self.0.push_back((guest, client));
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for (_, client) in &self.0 {
            client.abort();
        }
    }
}
