//! Which kernel this is, for those who complain about it.

/// The oldest version that everything was tried on.
const OLDEST: (u32, u32) = (6, 1);

/// The running kernel's release, such as `6.1.0-56-amd64`.
#[must_use]
pub fn release() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| String::new(),
        |name| name.release().to_string_lossy().into_owned(),
    )
}

/// What there is to say of a release that is older than any that this was tried on. It need not mean that nothing works:
/// distributions bring what is new to old kernels.
#[must_use]
pub fn too_old(release: &str) -> Option<String> {
    let (major, minor) = OLDEST;
    version(release)
        .is_some_and(|version| version < OLDEST)
        .then(|| {
            format!(
                "Linux {release} is older than {major}.{minor}, the oldest that this was tried on"
            )
        })
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("6.18.0-rc3-amd64"), Some((6, 18)));
        assert!(version("6.10").unwrap() > OLDEST);
        for (release, old) in [
            ("5.15.0-91-generic", true),
            ("6.0.19", true),
            ("6.1.0-56-amd64", false),
            ("6.10.3", false),
            ("7.0", false),
            ("unknown", false),
        ] {
            assert_eq!(too_old(release).is_some(), old, "{release}");
        }
    }
}
