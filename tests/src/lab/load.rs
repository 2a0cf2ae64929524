//! Steady traffic to published ports while something is done to the host: held connections, new ones and
//! datagrams, each of them accounted for.

use std::{
    collections::BTreeSet,
    fmt,
    io::{Error, ErrorKind},
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Lab, PATIENCE,
    talk::{self, Talk},
    udp_echo,
};

/// Ports of the lab's container that a load talks to.
pub const PORTS: &str = r#"
[[publish]]
listen = "0.0.0.0:8080"
to = "172.17.0.2:80"
[[publish]]
listen = "0.0.0.0:5300"
to = "172.17.0.2:53"
protocol = "udp"
"#;
const TCP: &str = "203.0.113.2:8080";
const UDP: &str = "203.0.113.2:5300";
/// How many failures are kept in words.
const FEW: usize = 5;

/// How much traffic there is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Connections that stay open, and are talked over in turn.
    pub held: usize,
    /// New connections a second; each is asked one question.
    pub connections: u32,
    /// Datagrams a second; each is answered.
    pub datagrams: u32,
}

impl Plan {
    /// What an upgrade has to get through unnoticed.
    pub const UPGRADE: Self = Self {
        held: 200,
        connections: 50,
        datagrams: 200,
    };
}

/// Traffic under way.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    held: JoinHandle<Held>,
    opened: JoinHandle<Opened>,
    answered: JoinHandle<Answered>,
}

/// What became of the held connections.
#[derive(Debug, Default)]
pub struct Held {
    /// How many there were.
    pub total: usize,
    /// How many live.
    pub alive: usize,
    /// How many questions were answered over them.
    pub answers: u64,
    /// Why some died.
    pub why: Vec<String>,
}

/// What became of the new connections.
#[derive(Debug, Default)]
pub struct Opened {
    /// How many were tried.
    pub total: u64,
    /// How many failed.
    pub failed: u64,
    /// The longest that one took to be opened and answered.
    pub longest: Duration,
    /// Why some failed.
    pub why: Vec<String>,
}

/// What became of the datagrams.
#[derive(Debug, Default)]
pub struct Answered {
    /// How many were sent.
    pub total: u64,
    /// How many were not answered.
    pub lost: u64,
    /// How many were answered to somebody whom the server took for another.
    pub wrong: u64,
    /// The longest time without an answer.
    pub gap: Duration,
}

/// What became of it all.
#[derive(Debug)]
pub struct Outcome {
    /// The held connections.
    pub held: Held,
    /// The new connections.
    pub opened: Opened,
    /// The datagrams.
    pub answered: Answered,
}

impl Load {
    /// Starts servers in the lab's container, and traffic from the LAN host. [`PORTS`] are published by then.
    #[must_use]
    pub fn begin(lab: &Lab, plan: Plan) -> Self {
        talk::serve(&lab.container, "0.0.0.0:80");
        udp_echo(&lab.container, "0.0.0.0:53");
        Self::resume(lab, plan)
    }

    /// Traffic again, to servers that run already.
    #[must_use]
    pub fn resume(lab: &Lab, plan: Plan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let talks = lab.lan.enter(move || {
            let open = |_| Talk::open_here(TCP).expect("a connection to be held");
            (0..plan.held).map(open).collect()
        });
        let (a, b, c) = (stop.clone(), stop.clone(), stop.clone());
        Self {
            held: lab.lan.spawn(move || hold(talks, &a)),
            opened: lab.lan.spawn(move || open(plan.connections, &b)),
            answered: lab.lan.spawn(move || ask(plan.datagrams, &c)),
            stop,
        }
    }

    /// Ends it, and says what became of it.
    #[must_use]
    pub fn end(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        Outcome {
            held: self.held.join().expect("the held connections"),
            opened: self.opened.join().expect("the new connections"),
            answered: self.answered.join().expect("the datagrams"),
        }
    }
}

impl Outcome {
    /// Nothing was noticed: no connection failed, none died, and of the datagrams at most `lost` of a thousand
    /// were not answered.
    pub fn assert_unnoticed(&self, lost: u64) {
        println!("{self}");
        assert_eq!(self.held.alive, self.held.total, "{self}");
        assert_eq!(self.opened.failed, 0, "{self}");
        assert_eq!(self.answered.wrong, 0, "{self}");
        assert!(
            self.answered.lost * 1000 <= self.answered.total * lost,
            "{self}"
        );
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            held,
            opened,
            answered,
        } = self;
        write!(
            f,
            "held connections: {} of {} alive after {} answers {:?}; new connections: {} of {} failed, the \
             longest took {:?} {:?}; datagrams: {} of {} lost, {} wrong, longest silence {:?}",
            held.alive,
            held.total,
            held.answers,
            held.why,
            opened.failed,
            opened.total,
            opened.longest,
            opened.why,
            answered.lost,
            answered.total,
            answered.wrong,
            answered.gap,
        )
    }
}

/// Asks one after the other. Whoever does not answer is dead, and stays so.
fn hold(talks: Vec<Talk>, stop: &AtomicBool) -> Held {
    let mut held = Held {
        total: talks.len(),
        ..Held::default()
    };
    let mut talks: Vec<_> = talks.into_iter().map(Some).collect();
    // The last round is a whole one: each is asked once after all is over.
    let mut last = false;
    while !last {
        last = stop.load(Ordering::Relaxed);
        for place in &mut talks {
            let Some(talk) = place else { continue };
            match talk.ask() {
                Ok(()) => held.answers += 1,
                Err(error) => {
                    note(&mut held.why, &error);
                    *place = None;
                }
            }
            thread::sleep(Duration::from_micros(500));
        }
    }
    held.alive = talks.iter().flatten().count();
    held
}

fn open(rate: u32, stop: &AtomicBool) -> Opened {
    let mut opened = Opened::default();
    paced(rate, stop, |_| {
        let start = Instant::now();
        opened.total += 1;
        if let Err(error) = Talk::open_here(TCP) {
            opened.failed += 1;
            note(&mut opened.why, &error);
        }
        opened.longest = opened.longest.max(start.elapsed());
    });
    opened
}

fn ask(rate: u32, stop: &AtomicBool) -> Answered {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect(UDP).expect("the published port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let listener = socket.try_clone().expect("a socket");
    let me = format!("{} ", socket.local_addr().expect("a socket"));
    // The last one of all says that there are no more.
    let answers = thread::spawn(move || {
        let (mut seen, mut wrong, mut gap) = (BTreeSet::new(), 0, Duration::ZERO);
        let mut buffer = [0; 64];
        let mut before = Instant::now();
        loop {
            let answer = listener.recv(&mut buffer);
            gap = gap.max(before.elapsed());
            before = Instant::now();
            let length = match answer {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // A refusal (ICMP) of an earlier one, which counts as lost.
                Err(_) => continue,
            };
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            match text.strip_prefix(&me).map(str::parse::<u64>) {
                Some(Ok(u64::MAX)) => break,
                Some(Ok(number)) => drop(seen.insert(number)),
                _ => wrong += 1,
            }
        }
        (seen, wrong, gap)
    });
    let mut total = 0;
    paced(rate, stop, |number| {
        drop(socket.send(number.to_string().as_bytes()));
        total = number + 1;
    });
    while !answers.is_finished() {
        drop(socket.send(u64::MAX.to_string().as_bytes()));
        thread::sleep(Duration::from_millis(100));
    }
    let (seen, wrong, gap) = answers.join().expect("the answers");
    Answered {
        total,
        lost: total - seen.len() as u64,
        wrong,
        gap,
    }
}

/// Does something so many times a second, until it is stopped. What is late is made up for.
fn paced(rate: u32, stop: &AtomicBool, mut work: impl FnMut(u64)) {
    let start = Instant::now();
    let mut number = 0_u64;
    while rate > 0 && !stop.load(Ordering::Relaxed) {
        work(number);
        number += 1;
        let due = Duration::from_secs(number) / rate;
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
}

fn note(why: &mut Vec<String>, error: &Error) {
    if why.len() < FEW {
        why.push(error.to_string());
    }
}
