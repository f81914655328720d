//! Sets of characters: `[...]`, `\d`, `[[:alpha:]]`, `\pL`.

use ::regex::Regex;

use super::translate::{Parsed, Scanner};

/// Items of a Rust class, each of which stands for itself whatever is beside it.
#[derive(Default)]
pub(super) struct Items(String);

impl Items {
    /// Adds the characters from `low` to `high`.
    pub(super) fn range(&mut self, low: u32, high: u32) {
        // No text holds a surrogate, and Rust has no name for one.
        let low = if (0xd800..0xe000).contains(&low) { 0xe000 } else { low };
        let high = if (0xd800..0xe000).contains(&high) { 0xd7ff } else { high };
        if low <= high {
            self.item(&format!(r"\x{{{low:x}}}-\x{{{high:x}}}"));
        }
    }

    fn item(&mut self, text: &str) {
        self.0.push_str(text);
    }

    /// The set of them, or of all others.
    pub(super) fn set(&self, negated: bool, fold: bool) -> String {
        match (self.0.is_empty(), negated) {
            (true, true) => "(?s:.)".to_owned(),
            (true, false) => NOTHING.to_owned(),
            (false, _) => {
                let flag = if fold { "(?i:" } else { "(?:" };
                let caret = if negated { "^" } else { "" };
                format!("{flag}[{caret}{}])", self.0)
            }
        }
    }
}

/// The set of no character.
const NOTHING: &str = r"[^\x{0}-\x{10ffff}]";

/// `\d`, `\s`, `\w` and their opposites, which are ASCII in Go.
fn perl(letter: char) -> Option<(&'static str, bool)> {
    let items = match letter.to_ascii_lowercase() {
        'd' => "0-9",
        's' => r"\t\n\x0c\r\x20",
        'w' => "0-9A-Z_a-z",
        _ => return None,
    };
    Some((items, letter.is_ascii_uppercase()))
}

/// `[:name:]`.
fn posix(name: &str) -> Option<&'static str> {
    Some(match name {
        "alnum" => "0-9A-Za-z",
        "alpha" => "A-Za-z",
        "ascii" => r"\x00-\x7f",
        "blank" => r"\t\x20",
        "cntrl" => r"\x00-\x1f\x7f",
        "digit" => "0-9",
        "graph" => r"\x21-\x7e",
        "lower" => "a-z",
        "print" => r"\x20-\x7e",
        "punct" => r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
        "space" => r"\t\n\x0b\x0c\r\x20",
        "upper" => "A-Z",
        "word" => "0-9A-Z_a-z",
        "xdigit" => "0-9A-Fa-f",
        _ => return None,
    })
}

/// A set as an item of another.
fn nested(items: &str, negated: bool) -> String {
    format!("[{}{items}]", if negated { "^" } else { "" })
}

/// `\d` or `\pL` at the scanner, as an item of a class.
pub(super) fn escape(scanner: &mut Scanner<'_>) -> Parsed<Option<String>> {
    let Some(letter) = scanner.rest().strip_prefix('\\').and_then(|r| r.chars().next()) else {
        return Ok(None);
    };
    if matches!(letter, 'p' | 'P') {
        return unicode(scanner, letter == 'P').map(Some);
    }
    Ok(perl(letter).map(|(items, negated)| {
        scanner.skip(2);
        nested(items, negated)
    }))
}

/// `\pL`, `\p{Greek}`, `\p{^Greek}`, which the scanner stands at.
fn unicode(scanner: &mut Scanner<'_>, mut negated: bool) -> Parsed<String> {
    let text = scanner.rest();
    let invalid = |seq: &str| Err(format!("invalid character class range: `{seq}`"));
    let body = &text[2..];
    let (seq, mut name) = if body.starts_with('{') {
        let Some(end) = text.find('}') else {
            return invalid(text);
        };
        (&text[..=end], &text[3..end])
    } else {
        match body.chars().next() {
            Some(c) => (&text[..2 + c.len_utf8()], &body[..c.len_utf8()]),
            None => return invalid(text),
        }
    };
    if let Some(rest) = name.strip_prefix('^') {
        negated = !negated;
        name = rest;
    }
    let canonical: String = name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).collect();
    if canonical.is_empty() || !canonical.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return invalid(seq);
    }
    // Categories first, then scripts, as in Go; Rust's other properties Go does not have.
    let letter = if negated { 'P' } else { 'p' };
    for property in ["gc", "sc"] {
        let item = format!(r"\{letter}{{{property}={canonical}}}");
        if Regex::new(&item).is_ok() {
            scanner.skip(seq.len());
            return Ok(item);
        }
    }
    invalid(seq)
}

/// `[...]`, which the scanner stands at.
pub(super) fn bracketed(scanner: &mut Scanner<'_>, fold: bool) -> Parsed<String> {
    let whole = scanner.rest();
    scanner.skip(1);
    let negated = scanner.accept("^");
    let mut items = Items::default();
    let mut first = true;
    while first || !scanner.rest().starts_with(']') {
        // A `]` at the start is a character.
        first = false;
        if let Some(named) = named(scanner)? {
            items.item(&named);
            continue;
        }
        if let Some(item) = escape(scanner)? {
            items.item(&item);
            continue;
        }
        let start = scanner.rest();
        let low = class_char(scanner, whole)?;
        let mut high = low;
        let rest = scanner.rest();
        // `[a-]` is a or a hyphen.
        if rest.len() >= 2 && rest.starts_with('-') && !rest.starts_with("-]") {
            scanner.skip(1);
            high = class_char(scanner, whole)?;
            if high < low {
                let range = &start[..start.len() - scanner.rest().len()];
                return Err(format!("invalid character class range: `{range}`"));
            }
        }
        items.range(low, high);
    }
    scanner.skip(1);
    Ok(items.set(negated, fold))
}

/// `[:alpha:]` inside a class.
fn named(scanner: &mut Scanner<'_>) -> Parsed<Option<String>> {
    let text = scanner.rest();
    let Some(body) = text.strip_prefix("[:") else {
        return Ok(None);
    };
    let Some(end) = body.find(":]") else {
        return Ok(None);
    };
    let (name, negated) = match body[..end].strip_prefix('^') {
        Some(name) => (name, true),
        None => (&body[..end], false),
    };
    let seq = &text[..end + 4];
    match posix(name) {
        Some(items) => {
            scanner.skip(seq.len());
            Ok(Some(nested(items, negated)))
        }
        None => Err(format!("invalid character class range: `{seq}`")),
    }
}

fn class_char(scanner: &mut Scanner<'_>, whole: &str) -> Parsed<u32> {
    match scanner.rest().chars().next() {
        None => Err(format!("missing closing ]: `{whole}`")),
        Some('\\') => scanner.escaped_char(),
        Some(c) => {
            scanner.skip(c.len_utf8());
            Ok(u32::from(c))
        }
    }
}
