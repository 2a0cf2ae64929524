//! What the targets have in common.

/// What is said of bad input is one line that can be shown.
pub fn is_one_clean_line(text: &str) {
    assert!(!text.is_empty(), "it says nothing");
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.len() < 2000, "{} bytes", text.len());
}
