//! The clock of the maps.

use std::{fs, sync::LazyLock};

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};

const SECOND: i64 = 1_000_000_000;

/// What this process's time namespace adds to `CLOCK_MONOTONIC`, in nanoseconds (time_namespaces(7)): the programs in
/// the kernel know nothing of it.
static OFFSET: LazyLock<i64> = LazyLock::new(|| {
    let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    parse(&offsets).unwrap_or(0)
});

/// The kernel's own `CLOCK_MONOTONIC` in nanoseconds.
///
/// # Errors
/// When the kernel has no such clock.
pub fn now() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let now = now.tv_sec() * SECOND + now.tv_nsec();
    Ok(u64::try_from(now - *OFFSET)?)
}

fn parse(offsets: &str) -> Option<i64> {
    let line = offsets
        .lines()
        .find_map(|line| line.strip_prefix("monotonic"))?;
    let mut numbers = line.split_whitespace().map(str::parse::<i64>);
    let (seconds, nanoseconds) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    seconds.checked_mul(SECOND)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_as_the_kernel_writes_them() {
        let text = "monotonic         10     5\nboottime           7         0\n";
        assert_eq!(parse(text), Some(10 * SECOND + 5));
        assert_eq!(parse("monotonic         -2     0\n"), Some(-2 * SECOND));
        assert_eq!(parse(""), None);
    }
}
