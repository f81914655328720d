//! Go's regular expressions, by way of Rust's.
//!
//! Both are leftmost-first automata of one family, so what matches where is the same once an
//! expression means the same. [`GoRegex`] therefore reads Go's syntax by Go's rules and writes it
//! anew in Rust's (`translate`), instead of hoping that a text means the same in both.

use std::fmt;

use ::regex::{Regex, RegexBuilder};

mod class;
mod expand;
mod translate;

/// The longest expression. The crate's own bounds are for what it compiles to; this one is for what
/// it takes to get there.
const MAX_TEXT: usize = 32 << 10;

/// The most memory that a compiled expression takes, in bytes: the crate's default. Go allows 128
/// MiB; what is larger than this is refused with a sentence.
const MAX_SIZE: usize = 10 << 20;

/// A regular expression in Go's syntax (RE2), matched as Go does: unanchored, ASCII classes.
#[derive(Clone)]
pub struct GoRegex {
    text: String,
    regex: Regex,
    /// The name of each group, from group 1.
    names: Vec<Option<String>>,
}

impl GoRegex {
    /// Compiles an expression.
    ///
    /// # Errors
    /// With Go's complaint where Go refuses it, or a sentence where the two engines differ and it
    /// cannot be translated. Size bounded.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEXT {
            return Err(format!("the expression is longer than {MAX_TEXT} bytes"));
        }
        let translated = translate::translate(text)?;
        let regex = RegexBuilder::new(&translated.pattern).size_limit(MAX_SIZE).build().map_err(
            |error| match error {
                ::regex::Error::CompiledTooBig(_) => {
                    "the expression is too large: it takes more than 10 MiB".to_owned()
                }
                error => format!("the expression cannot be translated: {error}"),
            },
        )?;
        Ok(Self { text: text.to_owned(), regex, names: translated.names })
    }

    /// Whether it matches anywhere.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// How many capture groups it has, the whole match not counted.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.names.len()
    }

    /// The expansion of a template (`$1`, `${1}`, `$name`, `$$`) for the first match, by the rules
    /// of Go's `Regexp.Expand`; none without a match.
    #[must_use]
    pub fn expand(&self, template: &str, text: &str) -> Option<String> {
        let captures = self.regex.captures(text)?;
        Some(expand::expand(template, &self.names, &captures))
    }

    /// The texts of named groups of the first match, in the order of the groups; none without a
    /// match. A group that takes no part in the match has an empty text.
    #[must_use]
    pub fn named<'t>(&self, text: &'t str) -> Option<Vec<(String, &'t str)>> {
        let captures = self.regex.captures(text)?;
        let found = (1..).zip(&self.names).filter_map(|(group, name)| {
            let text = captures.get(group).map_or("", |found| found.as_str());
            Some((name.clone()?, text))
        });
        Some(found.collect())
    }
}

impl fmt::Debug for GoRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GoRegex").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests;
