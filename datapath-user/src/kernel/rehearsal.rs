//! What the programs would do, found out by running them, with nothing changed by it: the kernel runs a copy of
//! them (`BPF_PROG_TEST_RUN`) on maps of its own, which hold what those in force hold.
//!
//! Maps of configuration are copied whole. Of the flows and mappings, of which there may be a million, those
//! are copied that the packet meets: first those that its addresses name, and then, run by run, every entry in
//! the place where the copy would have put one of its own (a source port that is taken).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader, Pod, TestRunOptions,
    maps::MapInfo,
    programs::{
        ProgramError, ProgramInfo, SchedClassifier, TestRun as _, TestRunResult, Xdp,
        loaded_programs,
    },
};
use datapath_common::{
    conntrack::Flow,
    family::{V4, V6},
    mapping::MappingKey,
    names::{self, maps as maps_of},
    reason::Reason,
    tuple::{Direction, Tuple},
    way::HopKey,
};

use super::{
    life::Tier,
    link::Found,
    object, raw,
    tables::{Tabled, Tables},
    xdp,
};

/// Room for flows in the copy: one packet makes two entries at the most, and meets a few.
const ROOM: u32 = 1024;
/// How often a packet is run again since it met an entry that was not copied.
const RUNS: usize = 64;
/// Room for the frame that comes out.
const FRAME: usize = 2048;

/// Of include/uapi/linux/pkt_cls.h and include/uapi/linux/bpf.h.
const TC_ACT_REDIRECT: u32 = 7;
const XDP_REDIRECT: u32 = 4;

/// Maps that are not copied whole.
const LARGE: &[&str] = &[
    maps_of::FLOWS4,
    maps_of::FLOWS6,
    maps_of::HOPS4,
    maps_of::HOPS6,
    // Nobody is told of a packet that never was.
    maps_of::MONITOR,
];

/// A copy of the programs and of what they know.
pub struct Rehearsal {
    ebpf: Ebpf,
    real: Tables,
    copy: Tables,
    ids: BTreeMap<String, u32>,
    /// Entries of the maps in force that the packet meets, as bytes, by map.
    known: BTreeSet<(&'static str, Vec<u8>)>,
}

/// What a program made of a frame.
#[derive(Debug)]
pub struct Ran {
    /// Why it did so.
    pub reason: Option<Reason>,
    /// The packet was sent on past the stack.
    pub redirected: bool,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

impl Rehearsal {
    /// Makes the copy.
    ///
    /// # Errors
    /// When the kernel refuses: loading takes the service's own capabilities.
    pub fn new(real: &Tables) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        for name in [
            maps_of::FLOWS4,
            maps_of::FLOWS6,
            maps_of::HALF4,
            maps_of::HALF6,
            maps_of::MAPPINGS4,
            maps_of::MAPPINGS6,
            maps_of::FRAGMENTS4,
            maps_of::FRAGMENTS6,
            maps_of::PEERS4,
            maps_of::PEERS6,
        ] {
            loader.map_max_entries(name, ROOM);
        }
        let ebpf = loader.load(object::OBJECT).context(object::REFUSED)?;
        Ok(Self {
            ebpf,
            real: real.clone(),
            copy: Tables::unpinned(BTreeMap::new()),
            ids: BTreeMap::new(),
            known: BTreeSet::new(),
        })
    }

    /// The copy's maps, for a look at what the runs left there.
    #[must_use]
    pub const fn tables(&self) -> &Tables {
        &self.copy
    }

    /// The flow of these endpoints, if there is one in the maps in force.
    pub fn known_flow<F: Tabled>(&self, key: &Tuple<F>) -> Result<Option<Flow<F>>> {
        for tier in [Tier::Established, Tier::Half] {
            if let Ok(flow) = self.real.tier::<F>(tier)?.get(key, 0) {
                return Ok(Some(flow));
            }
        }
        Ok(None)
    }

    /// Copies the flow of these endpoints, if there is one, both its entries.
    pub fn know_flow<F: Tabled>(&mut self, key: &Tuple<F>) -> Result<Option<Flow<F>>> {
        for tier in [Tier::Established, Tier::Half] {
            let Ok(flow) = self.real.tier::<F>(tier)?.get(key, 0) else {
                continue;
            };
            self.know(tier.map::<F>(), key);
            if let Some(direction) = Direction::from_raw(key.direction) {
                self.know(tier.map::<F>(), &flow.partner(direction));
            }
            return Ok(Some(flow));
        }
        Ok(None)
    }

    /// Copies an endpoint's mapping, if it has one, both its halves.
    pub fn know_mapping<F: Tabled>(&mut self, key: &MappingKey<F>) -> Result<()> {
        let (_, mappings) = self.real.mappings::<F>()?;
        if let (Ok(mapping), Some(direction)) =
            (mappings.get(key, 0), Direction::from_raw(key.direction))
        {
            self.know(F::MAPPINGS, key);
            let other = MappingKey::<F>::new(
                mapping.addr,
                mapping.port,
                key.protocol,
                direction.opposite(),
            );
            self.know(F::MAPPINGS, &other);
        }
        Ok(())
    }

    /// Copies a next hop, if it is known.
    pub fn know_hop<F: Tabled>(&mut self, key: &HopKey<F>) {
        self.know(F::HOPS, key);
    }

    fn know<K: Pod>(&mut self, map: &'static str, key: &K) {
        self.known.insert((map, raw::bytes(key).to_vec()));
    }

    /// Whether the program in force at a hook is the same as the copy's, instruction by instruction.
    ///
    /// # Errors
    /// When the link cannot be looked at.
    pub fn is_the_one_in_force(&mut self, pin: &std::path::Path, name: &str) -> Result<bool> {
        let id = Found::look(pin)?.program()?;
        let own = self.program(name)?.info()?.tag();
        Ok(loaded_programs()
            .flatten()
            .any(|program| program.id() == id && program.tag() == own))
    }

    /// Runs a program on a frame, as at an interface of the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn run(&mut self, name: &'static str, ifindex: u32, frame: &[u8]) -> Result<Ran> {
        self.load(name)?;
        for _ in 0..RUNS {
            self.reset()?;
            let ran = self.run_once(name, ifindex, frame)?;
            if !(self.has_met::<V4>()? | self.has_met::<V6>()?) {
                return Ok(ran);
            }
        }
        bail!(
            "{name}: the flows of this packet change faster than they can be looked at; try again"
        )
    }

    fn run_once(&mut self, name: &'static str, ifindex: u32, frame: &[u8]) -> Result<Ran> {
        let before = self.counts()?;
        let mut out = vec![0; FRAME];
        let (ran, redirect) = self
            .program(name)?
            .run(ifindex, frame, &mut out)
            .with_context(|| format!("running {name} on the packet"))?;
        out.truncate(ran.data_size_out as usize);
        let after = self.counts()?;
        let counted = before
            .iter()
            .zip(&after)
            .find(|(before, after)| before != after);
        Ok(Ran {
            reason: counted.map(|((reason, _), _)| *reason),
            redirected: ran.return_value == redirect,
            frame: out,
        })
    }

    fn counts(&self) -> Result<Vec<(Reason, u64)>> {
        let counters = self.copy.reasons()?;
        let count = |reason: &Reason| {
            let counts = counters.get(&(*reason as u32), 0)?;
            Ok((*reason, counts.iter().map(|count| count.packets).sum()))
        };
        Reason::ALL.iter().map(count).collect()
    }

    /// Loads a program, and fills those of its maps that are new.
    fn load(&mut self, name: &str) -> Result<()> {
        let mut program = self.program(name)?;
        program
            .load()
            .with_context(|| format!("{}: program {name}", object::REFUSED))?;
        let ids = program.info()?.map_ids()?.unwrap_or_default();
        let mut fresh = Vec::new();
        for id in ids {
            let info = MapInfo::from_id(id)?;
            let name = info.name_as_str().unwrap_or_default().to_owned();
            if self.ids.insert(name.clone(), id).is_none() {
                fresh.push(name);
            }
        }
        self.copy = Tables::unpinned(self.ids.clone());
        for name in names::maps::ALL {
            if LARGE.contains(name) || !fresh.iter().any(|new| new == name) {
                continue;
            }
            let (real, copy) = (self.real.data(name)?, self.copy.data(name)?);
            if raw::is_plain(&real)? {
                raw::copy_all(&real, &copy).with_context(|| format!("copying map {name}"))?;
            }
        }
        if fresh.iter().any(|new| new == maps_of::FRAME_PORTS) {
            let mut ports = self.copy.frame_ports()?;
            for port in self.real.frame_ports()?.keys() {
                let port = port?;
                // One that has just gone cannot be put in, and takes no frames.
                drop(ports.insert(port, port, None, 0));
            }
        }
        Ok(())
    }

    fn program(&mut self, name: &str) -> Result<Program<'_>> {
        Ok(if name == names::programs::UPLINK_XDP {
            Program::Driver(xdp::program(&mut self.ebpf)?)
        } else {
            Program::Stack(object::program(&mut self.ebpf, name)?)
        })
    }

    /// Puts the copy's flows back to what is known of those in force.
    fn reset(&self) -> Result<()> {
        self.clear::<V4>()?;
        self.clear::<V6>()?;
        for (map, key) in &self.known {
            if self.ids.contains_key(*map) {
                raw::copy_one(&self.real.data(map)?, &self.copy.data(map)?, key)?;
            }
        }
        Ok(())
    }

    fn clear<F: Tabled>(&self) -> Result<()> {
        if !self.has_flows::<F>() {
            return Ok(());
        }
        for tier in [Tier::Established, Tier::Half] {
            let map = self.copy.batched::<F>(tier)?;
            map.remove(&map.keys()?)?;
        }
        let (mappings, _) = self.copy.mappings::<F>()?;
        mappings.remove(&mappings.keys()?)?;
        Ok(())
    }

    /// Whether a program that was loaded looks at flows of this family.
    fn has_flows<F: Tabled>(&self) -> bool {
        [F::FLOWS, F::HALF, F::MAPPINGS]
            .iter()
            .all(|map| self.ids.contains_key(*map))
    }

    /// Whether the run left an entry where the maps in force have one that was not copied. It is known from now on.
    fn has_met<F: Tabled>(&mut self) -> Result<bool> {
        if !self.has_flows::<F>() {
            return Ok(false);
        }
        let mut met = Vec::new();
        for tier in [Tier::Established, Tier::Half] {
            for key in self.copy.batched::<F>(tier)?.keys()? {
                for other in [Tier::Established, Tier::Half] {
                    if self.real.tier::<F>(other)?.get(&key, 0).is_ok() {
                        met.push((other.map::<F>(), raw::bytes(&key).to_vec()));
                    }
                }
            }
        }
        let (_, real) = self.real.mappings::<F>()?;
        for key in self.copy.mappings::<F>()?.0.keys()? {
            if real.get(&key, 0).is_ok() {
                met.push((F::MAPPINGS, raw::bytes(&key).to_vec()));
            }
        }
        let before = self.known.len();
        self.known.extend(met);
        Ok(self.known.len() > before)
    }
}

/// A program of the copy.
enum Program<'a> {
    Stack(&'a mut SchedClassifier),
    Driver(&'a mut Xdp),
}

impl Program<'_> {
    fn load(&mut self) -> Result<(), ProgramError> {
        match self {
            Self::Stack(program) if program.fd().is_err() => program.load(),
            Self::Driver(program) if program.fd().is_err() => program.load(),
            Self::Stack(_) | Self::Driver(_) => Ok(()),
        }
    }

    fn info(&self) -> Result<ProgramInfo, ProgramError> {
        match self {
            Self::Stack(program) => program.info(),
            Self::Driver(program) => program.info(),
        }
    }

    /// Runs it, and says by which return value it would send the frame on.
    fn run(
        &self,
        ifindex: u32,
        frame: &[u8],
        out: &mut [u8],
    ) -> Result<(TestRunResult, u32), ProgramError> {
        let context = self.context(ifindex, frame);
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(out),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        Ok(match self {
            Self::Stack(program) => (program.test_run(options)?, TC_ACT_REDIRECT),
            Self::Driver(program) => (program.test_run(options)?, XDP_REDIRECT),
        })
    }

    /// What the kernel is told of where a frame is: the beginning of `struct __sk_buff`, or `struct xdp_md`, of
    /// include/uapi/linux/bpf.h.
    fn context(&self, ifindex: u32, frame: &[u8]) -> Vec<u8> {
        let words = match self {
            // Nine that say nothing, ingress_ifindex, ifindex.
            Self::Stack(_) => [vec![0; 9], vec![ifindex, ifindex]].concat(),
            // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
            Self::Driver(_) => {
                let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
                vec![0, length, 0, ifindex, 0, 0]
            }
        };
        words.into_iter().flat_map(u32::to_ne_bytes).collect()
    }
}
