//! Maps as bytes, whatever is in them: copied from one to the other.

use std::{io, mem::size_of};

use anyhow::{Result, bail};
use aya::maps::{MapData, MapType};

use super::batch::{ElemAttr, bpf, fd};

/// Commands of bpf(2), from include/uapi/linux/bpf.h.
const LOOKUP_ELEM: libc::c_long = 1;
const UPDATE_ELEM: libc::c_long = 2;
const GET_NEXT_KEY: libc::c_long = 4;

/// Whether a map's content is a matter of configuration: plain entries that stay until somebody takes them out,
/// the same for every CPU.
pub fn is_plain(map: &MapData) -> Result<bool> {
    let kind = map.info()?.map_type()?;
    Ok([MapType::Array, MapType::Hash, MapType::LpmTrie].contains(&kind))
}

/// Copies every entry.
///
/// # Errors
/// When the two are of different sizes, or the kernel refuses.
pub fn copy_all(from: &MapData, to: &MapData) -> Result<()> {
    let (mut key, mut value) = buffers(from, to)?;
    let mut next = key.clone();
    let mut begun = false;
    loop {
        let mut attr = ElemAttr {
            map_fd: fd(from),
            key: if begun { key.as_ptr() as u64 } else { 0 },
            value: next.as_mut_ptr() as u64,
            ..ElemAttr::default()
        };
        match bpf(GET_NEXT_KEY, &mut attr) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        key.copy_from_slice(&next);
        begun = true;
        copy(from, to, &key, &mut value)?;
    }
}

/// Copies one entry, if it is there. Says whether it was.
///
/// # Errors
/// As [`copy_all`].
pub fn copy_one(from: &MapData, to: &MapData, key: &[u8]) -> Result<bool> {
    let (room, mut value) = buffers(from, to)?;
    if room.len() != key.len() {
        bail!("a key of {} bytes for one of {}", key.len(), room.len());
    }
    copy(from, to, key, &mut value)
}

/// A key as the kernel sees it.
#[must_use]
pub fn bytes<T: aya::Pod>(key: &T) -> &[u8] {
    // SAFETY: a `Pod` is plain bytes, every one of them initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(key).cast(), size_of::<T>()) }
}

fn buffers(from: &MapData, to: &MapData) -> Result<(Vec<u8>, Vec<u8>)> {
    let (one, other) = (from.info()?, to.info()?);
    let sizes = |info: &aya::maps::MapInfo| (info.key_size() as usize, info.value_size() as usize);
    if sizes(&one) != sizes(&other) {
        bail!(
            "map {}: of another shape than this program's: it is another version's",
            one.name_as_str().unwrap_or("?")
        );
    }
    let (key, value) = sizes(&one);
    Ok((vec![0; key], vec![0; value]))
}

fn copy(from: &MapData, to: &MapData, key: &[u8], value: &mut [u8]) -> Result<bool> {
    let value = value.as_mut_ptr() as u64;
    let element = |map: &MapData| ElemAttr {
        map_fd: fd(map),
        key: key.as_ptr() as u64,
        value,
        ..ElemAttr::default()
    };
    let (mut read, mut write) = (element(from), element(to));
    match bpf(LOOKUP_ELEM, &mut read) {
        Ok(()) => {}
        // Taken out meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    bpf(UPDATE_ELEM, &mut write)?;
    Ok(true)
}
