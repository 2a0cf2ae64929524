//! The documentation's figures: results.json, the drawings, and the tables between marks in the text, all made of
//! what was measured and of nothing else.

use std::{fs, io, path::Path};

use super::{Part, drawing, results::Results, text};

/// Writes everything into a directory, and the tables into the text beside it (`docs/benchmarks` and
/// `docs/benchmarks.md`). Parts that were measured formerly are drawn anew as well.
///
/// # Errors
/// When a file cannot be read or written, or the text lacks a mark.
pub fn save(measured: Results, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let file = directory.join("results.json");
    let mut results = Results::load(&file)?;
    results.renew(measured);
    results.save(&file)?;
    for stale in fs::read_dir(directory)? {
        let path = stale?.path();
        if path
            .extension()
            .is_some_and(|end| end == "svg" || end == "png")
        {
            fs::remove_file(path)?;
        }
    }
    let page = directory.with_extension("md");
    let mut page_text = fs::read_to_string(&page)?;
    for part in Part::ALL {
        let Some(result) = results.0.get(part.name()) else {
            continue;
        };
        for (name, svg) in drawing::drawings(part.name(), result) {
            #[cfg(feature = "png")]
            fs::write(directory.join(format!("{name}.png")), drawing::png(&svg)?)?;
            fs::write(directory.join(format!("{name}.svg")), svg)?;
        }
        page_text = replace(&page_text, part.name(), &text::tables(result))?;
    }
    page_text = replace(&page_text, "goals", &text::promises(&results))?;
    fs::write(page, page_text)
}

/// Puts text between the marks of a name.
fn replace(page: &str, name: &str, text: &str) -> io::Result<String> {
    let [begin, end] = ["begin", "end"].map(|word| format!("<!-- {word}: {name} -->\n"));
    let missing = || io::Error::other(format!("no `{}` in the text", begin.trim_end()));
    let (before, rest) = page.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!(
        "{before}{begin}\n{}\n{end}{after}",
        text.trim_start()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_marks_is_replaced_and_nothing_else() {
        let page = "a\n<!-- begin: x -->\nold\n<!-- end: x -->\nb\n";
        let new = replace(page, "x", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- begin: x -->\n\nnew\n\n<!-- end: x -->\nb\n");
        assert_eq!(replace(&new, "x", "new\n").unwrap(), new);
        assert!(replace(page, "y", "new\n").is_err());
    }
}
