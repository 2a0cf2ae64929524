//! SPDX licence expressions: `MIT OR (Apache-2.0 AND BSD-3-Clause)`.

use std::{iter::Peekable, vec::IntoIter};

use anyhow::{Context as _, Result, bail};

/// Whether `expression` can be met with licences of `allowed` alone.
///
/// # Errors
/// When it is not an expression.
pub(super) fn is_met(expression: &str, allowed: &[String]) -> Result<bool> {
    let mut parser = Parser {
        words: words(expression).into_iter().peekable(),
        allowed,
    };
    let met = parser
        .either()
        .with_context(|| format!("licence `{expression}`"))?;
    match parser.words.next() {
        None => Ok(met),
        Some(word) => bail!("licence `{expression}`: `{word}` is out of place"),
    }
}

/// `MIT/Apache-2.0` is how crates wrote "or" before SPDX.
fn words(expression: &str) -> Vec<String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    spaced.split_whitespace().map(str::to_owned).collect()
}

struct Parser<'a> {
    words: Peekable<IntoIter<String>>,
    allowed: &'a [String],
}

impl Parser<'_> {
    fn either(&mut self) -> Result<bool> {
        let mut met = self.both()?;
        while self.words.next_if_eq("OR").is_some() {
            met |= self.both()?;
        }
        Ok(met)
    }

    fn both(&mut self) -> Result<bool> {
        let mut met = self.one()?;
        while self.words.next_if_eq("AND").is_some() {
            met &= self.one()?;
        }
        Ok(met)
    }

    fn one(&mut self) -> Result<bool> {
        let mut licence = self.words.next().context("a name is missing at the end")?;
        match licence.as_str() {
            "(" => {
                let met = self.either()?;
                self.words
                    .next_if_eq(")")
                    .context("a closing parenthesis is missing")?;
                return Ok(met);
            }
            ")" | "OR" | "AND" | "WITH" => bail!("`{licence}` stands where a name should"),
            _ => {}
        }
        if self.words.next_if_eq("WITH").is_some() {
            let exception = self.words.next().context("an exception is missing")?;
            licence = format!("{licence} WITH {exception}");
        }
        Ok(self.allowed.contains(&licence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_as_spdx_says() {
        let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for (expression, met) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT", true),
            ("GPL-3.0-only/MIT", true),
            ("GPL-3.0-only AND MIT", false),
            // AND binds more tightly than OR.
            ("MIT OR ISC AND GPL-3.0-only", true),
            ("(MIT OR ISC) AND GPL-3.0-only", false),
            ("(MIT OR GPL-3.0-only) AND (ISC OR GPL-3.0-only)", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
        ] {
            assert_eq!(is_met(expression, &allowed).unwrap(), met, "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_is_an_error() {
        for expression in [
            "", "MIT OR", "(MIT", "MIT)", "MIT ISC", "AND MIT", "MIT WITH",
        ] {
            assert!(is_met(expression, &[]).is_err(), "{expression}");
        }
    }
}
