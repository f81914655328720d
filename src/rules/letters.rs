//! What Go's package `unicode` calls a letter, a digit or printable.

use std::sync::LazyLock;

use regex::Regex;

/// `unicode.IsLetter` or `unicode.IsDigit`, or the underscore: what names are made of.
pub(super) fn is_name_char(c: char) -> bool {
    /// Go's letters are category L and its digits are Nd; Rust's `is_alphanumeric` takes in more.
    static NAME: LazyLock<Regex> = LazyLock::new(|| class(r"\A[\p{L}\p{Nd}]\z"));
    if c.is_ascii() {
        return c == '_' || c.is_ascii_alphanumeric();
    }
    matches(&NAME, c)
}

/// `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
pub(super) fn is_printable(c: char) -> bool {
    static PRINTABLE: LazyLock<Regex> = LazyLock::new(|| class(r"\A[\p{L}\p{M}\p{N}\p{P}\p{S}]\z"));
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    matches(&PRINTABLE, c)
}

fn matches(class: &Regex, c: char) -> bool {
    class.is_match(c.encode_utf8(&mut [0; 4]))
}

fn class(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a fixed pattern of known categories compiles")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_gos() {
        for (c, expected) in [
            ('a', true),
            ('_', true),
            ('7', true),
            ('-', false),
            ('é', true),
            ('٣', true),  // Nd
            ('²', false), // No, which Rust calls numeric
            ('Ⅷ', false), // Nl, which Rust calls alphabetic
            ('\u{301}', false),
        ] {
            assert_eq!(is_name_char(c), expected, "{c:?}");
        }
    }

    #[test]
    fn printable_is_gos() {
        for (c, expected) in [
            (' ', true),
            ('~', true),
            ('\u{7f}', false),
            ('\n', false),
            ('\u{a0}', false),
            ('\u{ad}', false),
            ('\u{301}', true),
            ('☃', true),
            ('\u{200b}', false),
            ('\u{e000}', false),
        ] {
            assert_eq!(is_printable(c), expected, "{c:?}");
        }
    }
}
