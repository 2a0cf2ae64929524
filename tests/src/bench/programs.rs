//! What each program takes of the packets of an established flow, by the kernel's own account of its runs, and how large
//! it is. What the account itself costs is that of a program of no work, which has the same packets, and is taken off.
//!
//! A program at the driver's level is not in it: frames come to it here by way of the generator's, whose account its
//! runs are put on.

use super::{
    bpf::{self, Code, Kind},
    contender::Contender,
    driver::{self, Source, Traffic},
    results::{Better, Figure, Measure},
    stage::Stage,
};
use crate::lab::run;

/// A program, where it is attached, and what is measured of it.
struct Program {
    name: &'static str,
    interface: &'static str,
    inward: Measure,
    outward: Measure,
    instructions: Measure,
    machine_code: Measure,
}

macro_rules! program {
    ($name:literal at $interface:literal) => {
        Program {
            name: $name,
            interface: $interface,
            inward: Measure::new(concat!("inward: ", $name), "ns per run", Better::Less),
            outward: Measure::new(concat!("outward: ", $name), "ns per run", Better::Less),
            instructions: Measure::new(concat!("size: ", $name), "instructions", Better::Less),
            machine_code: Measure::new(concat!("machine code: ", $name), "bytes", Better::Less),
        }
    };
}

const PROGRAMS: [Program; 4] = [
    program!("uplink_ingress" at "eth0"),
    program!("veth_ingress" at "vc"),
    program!("bridge_ingress" at "docker0"),
    program!("uplink_egress" at "eth0"),
];

/// What the kernel says of a program.
#[derive(Clone, Copy, Debug)]
struct Account {
    nanoseconds: u64,
    runs: u64,
    instructions: u64,
    machine_code: u64,
}

/// Measures all that the packets meet, both ways.
pub(super) fn measure(stage: &Stage, frames: u32) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (traffic, outward) in [
        (driver::inward(stage.contender), false),
        (driver::outward(stage.contender), true),
    ] {
        let took = runs(stage, traffic, if outward { "vc" } else { "eth0" }, frames);
        for (program, took) in PROGRAMS.iter().zip(took) {
            let measure = if outward {
                program.outward
            } else {
                program.inward
            };
            figures.extend(took.map(|took| measure.figure(took)));
        }
    }
    if stage.contender == Contender::Datapath {
        for program in &PROGRAMS {
            let account = stage
                .program(program.name, program.interface)
                .map(account)
                .expect("a way past the stack takes all of them");
            figures.extend([
                program.instructions.figure(account.instructions as f64),
                program.machine_code.figure(account.machine_code as f64),
            ]);
        }
    }
    figures
}

/// Nanoseconds that a run of each program takes, of those that the packets meet.
fn runs(stage: &Stage, traffic: Traffic, arrive: &str, frames: u32) -> Vec<Option<f64>> {
    const GO_ON: i32 = -1;
    let mut code = Code::default();
    code.end(GO_ON);
    let nothing = bpf::load(Kind::Classifier, &code, false).expect("a program of no work");
    let index = stage.ifindex(arrive);
    let _link = stage.lab.host.enter(|| {
        bpf::attach_tcx(&nothing, index, false, true).expect("TCX takes another program")
    });
    let mut ids: Vec<_> = PROGRAMS
        .iter()
        .map(|program| stage.program(program.name, program.interface))
        .collect();
    ids.push(Some(bpf::id(&nothing).expect("the program's id")));
    let accounts = || ids.iter().map(|id| id.map(account)).collect::<Vec<_>>();
    let mut source = Source::new(stage, traffic);
    source.open(1);
    source.warm_up(frames / 10);
    let times = bpf::take_times().expect("the kernel takes programs' times");
    let before = accounts();
    source.cost(1, frames);
    let after = accounts();
    drop(times);
    source.check();
    let took = before.iter().zip(after).map(|(before, after)| {
        let (before, after) = (before.as_ref()?, after?);
        let runs = after.runs - before.runs;
        // A few are the lab's own hosts' chatter.
        (runs > u64::from(frames) / 2)
            .then(|| (after.nanoseconds - before.nanoseconds) as f64 / runs as f64)
    });
    let mut took: Vec<_> = took.collect();
    let own = took.pop().flatten().expect("the program of no work ran");
    took.iter()
        .map(|took| took.map(|took| took - own))
        .collect()
}

fn account(id: u32) -> Account {
    let shown = run(std::process::Command::new("bpftool")
        .args(["-j", "prog", "show", "id"])
        .arg(id.to_string()));
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("bpftool's JSON");
    let number = |name: &str| shown[name].as_u64();
    Account {
        // Absent until there is something to tell.
        nanoseconds: number("run_time_ns").unwrap_or(0),
        runs: number("run_cnt").unwrap_or(0),
        instructions: number("bytes_xlated").expect("a size") / 8,
        machine_code: number("bytes_jited").expect("a size"),
    }
}
