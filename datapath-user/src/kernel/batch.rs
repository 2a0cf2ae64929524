//! Hash maps (and what else has batches) by the thousand: batched system calls, which aya has none of.
//!
//! One call for each entry takes seconds for a million flows; a batch takes a lock for each bucket and copies
//! what it finds.

use std::{
    collections::BTreeMap,
    io,
    marker::PhantomData,
    mem::{MaybeUninit, size_of, size_of_val},
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Result, bail};
use aya::{Pod, maps::MapData};

/// Commands of bpf(2), from include/uapi/linux/bpf.h.
const LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const LOOKUP_BATCH: libc::c_long = 24;
const UPDATE_BATCH: libc::c_long = 26;
const DELETE_BATCH: libc::c_long = 27;

/// Entries in one call: enough that the call itself costs nothing, and few enough to be kind to the caches.
const BATCH: usize = 4096;
/// No bucket of ours comes near this: the kernel hands out whole buckets.
const LARGEST_BATCH: usize = 1 << 20;
/// Room for the kernel's note of where it was: a bucket's number, or a key in other kinds of maps.
type Cursor = [u64; 8];

/// `struct { .. } batch` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The part of `union bpf_attr` that single entries use.
#[repr(C)]
#[derive(Default)]
pub(super) struct ElemAttr {
    pub(super) map_fd: u32,
    pub(super) zero: u32,
    pub(super) key: u64,
    /// Where the value is, or the next key goes.
    pub(super) value: u64,
    pub(super) flags: u64,
}

/// A hash map, LRU or not, or an array, to be read and written in batches.
#[derive(Debug)]
pub struct Batched<K, V> {
    data: MapData,
    entry: PhantomData<(K, V)>,
}

impl<K: Pod, V: Pod> Batched<K, V> {
    /// The map behind a descriptor.
    ///
    /// # Errors
    /// When its keys or values are of another size.
    pub fn new(data: MapData) -> Result<Self> {
        let info = data.info()?;
        let (key, value) = (info.key_size() as usize, info.value_size() as usize);
        if (key, value) != (size_of::<K>(), size_of::<V>()) {
            bail!(
                "map {}: entries of {key} and {value} bytes where {} and {} are expected",
                info.name_as_str().unwrap_or("?"),
                size_of::<K>(),
                size_of::<V>(),
            );
        }
        Ok(Self {
            data,
            entry: PhantomData,
        })
    }

    /// Shows every entry to `visit`, a batch at a time, until it fails. An entry that is there all the time is
    /// seen once; one that comes or goes meanwhile may be seen or not.
    ///
    /// # Errors
    /// The kernel's, or `visit`'s.
    pub fn scan(&self, mut visit: impl FnMut(&[K], &[V]) -> Result<()>) -> Result<()> {
        scan_raw(&self.data, size_of::<K>(), size_of::<V>(), |batch| {
            // SAFETY: the kernel wrote `count` keys and values of exactly these sizes (see `new`) into memory that is
            // aligned for either, and every bit pattern of a `Pod` is a value.
            let (keys, values) = unsafe {
                (
                    std::slice::from_raw_parts(batch.keys.cast::<K>(), batch.count),
                    std::slice::from_raw_parts(batch.values.cast::<V>(), batch.count),
                )
            };
            visit(keys, values)
        })
    }

    /// All entries, sorted.
    ///
    /// # Errors
    /// The kernel's.
    pub fn entries(&self) -> Result<BTreeMap<K, V>>
    where
        K: Ord,
    {
        let mut all = Vec::new();
        self.scan(|keys, values| {
            all.extend(keys.iter().copied().zip(values.iter().copied()));
            Ok(())
        })?;
        Ok(all.into_iter().collect())
    }

    /// The keys of all entries.
    ///
    /// # Errors
    /// The kernel's.
    pub fn keys(&self) -> Result<Vec<K>> {
        let mut all = Vec::new();
        self.scan(|keys, _| {
            all.extend_from_slice(keys);
            Ok(())
        })?;
        Ok(all)
    }

    /// How many entries there are.
    ///
    /// # Errors
    /// The kernel's.
    pub fn count(&self) -> Result<u64> {
        count(&self.data)
    }

    /// Takes these entries out, as far as they are there; returns how many were.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self, mut keys: &[K]) -> Result<usize> {
        let mut removed = 0;
        while !keys.is_empty() {
            let mut attr = BatchAttr {
                keys: keys.as_ptr() as u64,
                count: u32::try_from(keys.len())?,
                map_fd: self.fd(),
                ..BatchAttr::default()
            };
            let result = bpf(DELETE_BATCH, &mut attr);
            let done = (attr.count as usize).min(keys.len());
            removed += done;
            // The kernel stops before the first that is not there.
            let skip = match result.as_ref().map_err(io::Error::raw_os_error) {
                Ok(()) => done,
                Err(Some(libc::ENOENT)) => done + 1,
                Err(_) => {
                    result?;
                    done
                }
            };
            keys = keys.get(skip..).unwrap_or_default();
        }
        Ok(removed)
    }

    /// Writes these entries, whether they are there or not.
    ///
    /// # Errors
    /// The kernel's; then some are written and some are not.
    pub fn put(&self, keys: &[K], values: &[V]) -> Result<()> {
        for (keys, values) in keys.chunks(BATCH).zip(values.chunks(BATCH)) {
            if keys.len() != values.len() {
                bail!("{} keys for {} values", keys.len(), values.len());
            }
            let mut attr = BatchAttr {
                keys: keys.as_ptr() as u64,
                values: values.as_ptr() as u64,
                count: u32::try_from(keys.len())?,
                map_fd: self.fd(),
                ..BatchAttr::default()
            };
            bpf(UPDATE_BATCH, &mut attr)?;
        }
        Ok(())
    }

    /// Takes an entry out and returns it, in one step.
    ///
    /// # Errors
    /// The kernel's, except that the entry is not there.
    pub fn take(&self, key: &K) -> Result<Option<V>> {
        let mut value = MaybeUninit::<V>::uninit();
        let mut attr = ElemAttr {
            map_fd: self.fd(),
            key: std::ptr::from_ref(key) as u64,
            value: value.as_mut_ptr() as u64,
            ..ElemAttr::default()
        };
        match bpf(LOOKUP_AND_DELETE_ELEM, &mut attr) {
            // SAFETY: the kernel wrote a value of exactly this size (see `new`).
            Ok(()) => Ok(Some(unsafe { value.assume_init() })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn fd(&self) -> u32 {
        fd(&self.data)
    }
}

/// How many entries a map has, whatever is in them: hash maps and tries.
///
/// # Errors
/// The kernel's.
pub fn count(map: &MapData) -> Result<u64> {
    let info = map.info()?;
    let mut count = 0;
    let sizes = (info.key_size() as usize, info.value_size() as usize);
    scan_raw(map, sizes.0, sizes.1, |batch| {
        count += batch.count as u64;
        Ok(())
    })?;
    Ok(count)
}

/// Entries as the kernel wrote them.
struct Batch {
    keys: *const u64,
    values: *const u64,
    count: usize,
}

fn scan_raw(
    map: &MapData,
    key: usize,
    value: usize,
    mut visit: impl FnMut(&Batch) -> Result<()>,
) -> Result<()> {
    let mut room = BATCH;
    let mut keys = buffer(room, key);
    let mut values = buffer(room, value);
    let (mut from, mut to): (Cursor, Cursor) = ([0; 8], [0; 8]);
    let mut begun = false;
    loop {
        let mut attr = BatchAttr {
            in_batch: if begun { address(&mut from) } else { 0 },
            out_batch: address(&mut to),
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(room)?,
            map_fd: fd(map),
            ..BatchAttr::default()
        };
        let result = bpf(LOOKUP_BATCH, &mut attr);
        let last = match result.as_ref().map_err(io::Error::raw_os_error) {
            Ok(()) => false,
            Err(Some(libc::ENOENT)) => true,
            // A bucket with more entries than there is room for.
            Err(Some(libc::ENOSPC)) if room < LARGEST_BATCH => {
                room *= 2;
                (keys, values) = (buffer(room, key), buffer(room, value));
                continue;
            }
            Err(_) => return Ok(result?),
        };
        visit(&Batch {
            keys: keys.as_ptr().cast(),
            values: values.as_ptr().cast(),
            count: (attr.count as usize).min(room),
        })?;
        if last {
            return Ok(());
        }
        (from, begun) = (to, true);
    }
}

/// Memory for so many things of so many bytes, aligned for any of ours.
fn buffer(room: usize, size: usize) -> Vec<MaybeUninit<u64>> {
    let words = (room * size).div_ceil(size_of::<u64>());
    let mut buffer = Vec::with_capacity(words);
    buffer.resize_with(words, MaybeUninit::uninit);
    buffer
}

pub(super) fn fd(map: &MapData) -> u32 {
    // A descriptor in use is never negative.
    map.fd().as_fd().as_raw_fd().unsigned_abs()
}

fn address(cursor: &mut Cursor) -> u64 {
    cursor.as_mut_ptr() as u64
}

/// bpf(2).
pub(super) fn bpf<A>(command: libc::c_long, attr: &mut A) -> io::Result<()> {
    bpf_value(command, attr).map(drop)
}

/// A command whose answer is a number, such as a descriptor.
pub(super) fn bpf_value<A>(command: libc::c_long, attr: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is the beginning of `union bpf_attr` for this command, and every address in it is that of
    // a buffer which its caller keeps alive and large enough.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of_val(attr),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
