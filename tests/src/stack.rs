//! How much of the stack the programs' chains of calls take. A chain has 512 bytes, and kernels before 6.9 count each
//! call's in steps of 32 (kernel/bpf/verifier.c, `check_max_stack_depth`), newer ones in steps of 16: what fits here may
//! not fit there.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use aya_obj::{Object, generated::bpf_insn};
use datapath_user::kernel::object::OBJECT;

/// What a chain of calls has, in bytes.
pub const LIMIT: u32 = 512;
/// The steps of older kernels.
const STEP: u32 = 32;
/// The register that points to the end of a call's stack.
const FRAME: u8 = 10;
const REGISTERS: usize = 11;

/// Codes of instructions, and what the source register of two of them says (include/uapi/linux/bpf.h).
const MOVE: u8 = 0xbf;
const ADD_CONSTANT: u8 = 0x07;
const CALL: u8 = 0x85;
const LOAD_ADDRESS: u8 = 0x18;
const PSEUDO_CALL: u8 = 1;
const PSEUDO_FUNC: u8 = 4;

/// Bytes by program: its deepest chain of calls, as older kernels count.
///
/// # Errors
/// When the object cannot be read.
pub fn depths() -> Result<BTreeMap<String, u32>> {
    let mut object = Object::parse(OBJECT)?;
    let sections = object.functions.keys().map(|(section, _)| *section);
    object.relocate_calls(&sections.collect())?;
    let depth = |(name, program): (&String, &aya_obj::Program)| {
        let function = object.functions.get(&program.function_key());
        let function = function.with_context(|| format!("{name} has no code"))?;
        Ok((name.clone(), deepest(&function.instructions)))
    };
    object.programs.iter().map(depth).collect()
}

/// The deepest chain from the first instruction on.
fn deepest(code: &[bpf_insn]) -> u32 {
    let called = |at: usize| callee(code, at);
    let mut starts: BTreeSet<usize> = (0..code.len()).filter_map(called).collect();
    starts.insert(0);
    let ends = starts.iter().skip(1).copied().chain([code.len()]);
    let functions: BTreeMap<usize, (u32, BTreeSet<usize>)> = starts
        .iter()
        .copied()
        .zip(ends)
        .map(|(start, end)| {
            let callees = (start..end).filter_map(called).collect();
            (start, (own(&code[start..end]), callees))
        })
        .collect();
    chain(&functions, 0)
}

/// There is no recursion: the kernel refuses it.
fn chain(functions: &BTreeMap<usize, (u32, BTreeSet<usize>)>, start: usize) -> u32 {
    let (own, callees) = &functions[&start];
    let below = callees.iter().map(|callee| chain(functions, *callee)).max();
    own.max(&1).next_multiple_of(STEP) + below.unwrap_or(0)
}

/// Where a function begins that is called here, or whose address is taken.
fn callee(code: &[bpf_insn], at: usize) -> Option<usize> {
    let instruction = &code[at];
    match (instruction.code, instruction.src_reg()) {
        (CALL, PSEUDO_CALL) | (LOAD_ADDRESS, PSEUDO_FUNC) => {
            (at + 1).checked_add_signed(instruction.imm as isize)
        }
        _ => None,
    }
}

/// Bytes of the stack that a function names itself: by the frame's register, or by a copy of it.
fn own(code: &[bpf_insn]) -> u32 {
    let mut copies = [false; REGISTERS];
    let mut depth = 0;
    for instruction in code {
        let (to, from) = (instruction.dst_reg(), instruction.src_reg());
        let class = instruction.code & 7;
        let lowest = match class {
            // Loads, and stores of a constant or a register.
            1 if from == FRAME => i32::from(instruction.off),
            2 | 3 if to == FRAME => i32::from(instruction.off),
            _ if instruction.code == ADD_CONSTANT && copies[usize::from(to)] => instruction.imm,
            _ => 0,
        };
        depth = depth.max(lowest.min(0).unsigned_abs());
        if !matches!(class, 2 | 3 | 5 | 6) {
            copies[usize::from(to)] = instruction.code == MOVE && from == FRAME;
        }
    }
    depth
}
