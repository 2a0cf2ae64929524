//! The eBPF object, which the binary carries with it: loaded, its maps adopted or pinned.

use std::{
    error::Error,
    fs, io,
    num::NonZero,
    panic::resume_unwind,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfError, EbpfLoader, include_bytes_aligned,
    programs::{Program, SchedClassifier},
};
use datapath_common::names;

use super::{adopt, pins, version};
use crate::config::Config;

/// The object, as it was built.
pub static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/datapath-ebpf"));

/// What to say when the kernel does not take it.
pub(super) const REFUSED: &str = "the kernel refused the maps: loading needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON \
     (run as root) and Linux 6.1 or later";

/// Entries that half-open flows have at the most: an LRU map takes its memory at once.
const MAX_HALF: u32 = 131_072;

/// Programs that are loaded at a time: the largest takes a third of what all take.
const LOADERS: usize = 4;

/// Loads programs and maps. Maps that are pinned already are adopted as they are, with all that they hold.
///
/// # Errors
/// When the kernel refuses: names the map or program, and what is commonly missing.
pub fn load(config: &Config) -> Result<Ebpf> {
    pins::prepare(&config.pin_dir)?;
    let maps = pins::maps(&config.pin_dir);
    adopt::check(OBJECT, &config.pin_dir)?;
    let mut loader = EbpfLoader::new();
    // Two entries a flow.
    let flows = config.conntrack.max_flows.saturating_mul(2);
    let half = flows.min(MAX_HALF);
    for (name, size) in [
        (names::maps::FLOWS4, flows),
        (names::maps::FLOWS6, flows),
        (names::maps::HALF4, half),
        (names::maps::HALF6, half),
        (names::maps::MAPPINGS4, half),
        (names::maps::MAPPINGS6, half),
    ] {
        loader.map_max_entries(name, size);
    }
    for name in names::maps::ALL {
        loader.map_pin_path(name, maps.join(name));
    }
    let fresh = adopt::is_empty(&maps);
    let loaded = loader
        .load(OBJECT)
        .map_err(|error| explain(error, config.conntrack.max_flows))
        .and_then(|ebpf| complete(ebpf, &maps));
    if fresh && loaded.is_err() {
        // What nobody works with takes memory; and half of the maps would make the next service wonder where the others
        // went.
        drop(fs::remove_dir_all(&maps));
    }
    loaded
}

/// Makes the maps' pins private, and loads the programs.
fn complete(mut ebpf: Ebpf, maps: &Path) -> Result<Ebpf> {
    for name in names::maps::ALL {
        pins::make_private(&maps.join(name)).with_context(|| format!("map {name}"))?;
    }
    load_programs(&mut ebpf)?;
    Ok(ebpf)
}

/// Has the kernel look through the programs, which takes most of a start: several at a time, where there are processors
/// for it. The threads are gone afterwards.
fn load_programs(ebpf: &mut Ebpf) -> Result<()> {
    let mut programs: Vec<_> = ebpf.programs_mut().collect();
    // Those that take long first.
    programs.sort_by_key(|(name, _)| names::programs::HOST.contains(name));
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(LOADERS);
    let programs = Mutex::new(programs.into_iter());
    let next = || {
        let mut programs = programs.lock().unwrap_or_else(PoisonError::into_inner);
        programs.next()
    };
    let work = || {
        while let Some((name, program)) = next() {
            load_program(program).with_context(|| refused(name))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().fold(own, |result, other| {
            let other = other.join().unwrap_or_else(|panic| resume_unwind(panic));
            result.and(other)
        })
    })
}

fn load_program(program: &mut Program) -> Result<()> {
    if let Program::SchedClassifier(program) = program {
        program.load()?;
    } else if let Program::CgroupSockAddr(program) = program {
        program.load()?;
    } else if let Program::Xdp(program) = program {
        program.load()?;
    } else {
        bail!("it is of another type");
    }
    Ok(())
}

/// What to say when the kernel does not take a program. The verifier's reasons follow, which help nobody whose kernel is
/// too old.
fn refused(program: &str) -> String {
    let old = version::too_old(&version::release());
    let why = old.map_or_else(String::new, |old| format!(" ({old})"));
    format!("the kernel refused program {program}{why}")
}

/// What to do about an object that the kernel does not take.
fn explain(error: EbpfError, max_flows: u32) -> anyhow::Error {
    let error = anyhow::Error::from(error);
    let number = |cause: &(dyn Error + 'static)| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.and_then(io::Error::raw_os_error)
    };
    if error
        .chain()
        .filter_map(number)
        .any(|it| it == libc::ENOMEM)
    {
        return error.context(format!(
            "conntrack.max_flows: {max_flows}: no memory for maps of that size; lower it, or let the service have more \
             (`MemoryMax=` of a systemd unit, memory.max of a cgroup)"
        ));
    }
    error.context(REFUSED)
}

/// One of our classifiers.
///
/// # Errors
/// When the object has no such program.
pub fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    ebpf.program_mut(name)
        .with_context(|| format!("program {name} is not in the object"))?
        .try_into()
        .with_context(|| format!("program {name} is of another type"))
}
