//! Interfaces by number and name, in this network namespace.

use nix::net::if_::if_indextoname;

/// The name of an interface; `None` when there is no such one.
#[must_use]
pub fn name(ifindex: u32) -> Option<String> {
    // nix takes the null pointer that means "none" for success, and leaves the name empty.
    let name = if_indextoname(ifindex).ok()?.into_string().ok()?;
    (!name.is_empty()).then_some(name)
}

/// The name of an interface, or its number when it is gone.
#[must_use]
pub fn name_or_number(ifindex: u32) -> String {
    name(ifindex).unwrap_or_else(|| ifindex.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_gone_has_no_name() {
        assert_eq!(name(1).as_deref(), Some("lo"));
        let gone = u32::try_from(i32::MAX).unwrap();
        assert_eq!(name(gone), None);
        assert_eq!(name_or_number(gone), gone.to_string());
    }
}
