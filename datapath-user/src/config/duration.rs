//! Lengths of time as the file has them: `"5d"`, `"120s"`, `"2h 4min"`.

use std::time::Duration;

use super::ports::Fault;

/// A year: longer timeouts are mistakes, and the sum with any clock stays far from overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// Expiry is looked at in steps of a second.
const SHORTEST: Duration = Duration::from_secs(1);

/// Nanoseconds of a length of time between a second and a year.
pub(super) fn parse(text: &str) -> Result<u64, Fault> {
    let length = humantime::parse_duration(text).map_err(|_| {
        Fault::new(
            "not a length of time; write it with its unit, such as \"120s\", \"2h 4min\", \"5d\"",
        )
    })?;
    if !(SHORTEST..=LONGEST).contains(&length) {
        return Err(Fault::new(
            "a timeout is at least one second (\"1s\") and at most a year (\"365d\")",
        ));
    }
    u64::try_from(length.as_nanos()).map_err(|error| Fault(error.to_string()))
}

#[cfg(test)]
mod tests {
    use datapath_common::conntrack::timeouts::SECOND;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_and_bounds() {
        for (text, seconds) in [
            ("1s", Some(1)),
            ("120s", Some(120)),
            ("2h 4min", Some(7440)),
            ("5d", Some(432_000)),
            ("365d", Some(31_536_000)),
            ("366d", None),
            ("0s", None),
            ("999ms", None),
            ("120", None),
            ("-1s", None),
            ("", None),
            ("18446744073709551615y", None),
        ] {
            assert_eq!(parse(text).ok(), seconds.map(|s: u64| s * SECOND), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,30}|[0-9]{1,25}[a-z]{1,4}") {
            drop(parse(&text));
        }
    }
}
