//! The words of a `PromQL` query.
//!
//! Not a reader of `PromQL`: what it does not know it does not guess at, and the query goes out as
//! it is.

/// Longest query that is looked at, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// A word of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rules) enum Word {
    /// A metric, a label, a function, a keyword.
    Name(String),
    /// A number or a duration.
    Number(String),
    /// A quoted text, as it stands between its quotes.
    Text(String),
    /// An operator or a bracket.
    Sign(&'static str),
}

/// Longest first.
const SIGNS: [&str; 24] = [
    "==", "!=", "=~", "!~", ">=", "<=", "(", ")", "{", "}", "[", "]", ",", ":", "+", "-", "*", "/",
    "%", "^", "=", ">", "<", "@",
];

/// The words of a query, comments left out. None for what is not known.
pub(in crate::rules) fn words(query: &str) -> Option<Vec<Word>> {
    if query.len() > MAX_BYTES {
        return None;
    }
    let mut words = Vec::new();
    let mut rest = query;
    // Colons belong to names, but within square brackets they part durations.
    let mut in_range = false;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let Some(first) = rest.chars().next() else { return Some(words) };
        if first == '#' {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
            continue;
        }
        let length = if first.is_ascii_alphabetic() || first == '_' || (first == ':' && !in_range) {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
            let length = end.unwrap_or(rest.len());
            words.push(Word::Name(rest[..length].to_owned()));
            length
        } else if first.is_ascii_digit() || first == '.' {
            let length = number(rest);
            words.push(Word::Number(rest[..length].to_owned()));
            length
        } else if matches!(first, '"' | '\'' | '`') {
            let length = text(rest, first)?;
            words.push(Word::Text(rest[1..length - 1].to_owned()));
            length
        } else {
            let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign))?;
            in_range = sign == "[" || (in_range && sign != "]");
            words.push(Word::Sign(sign));
            sign.len()
        };
        rest = &rest[length..];
    }
}

/// How long a number or a duration is: `5`, `1.5e-3`, `0x1F`, `1h30m`.
fn number(text: &str) -> usize {
    let bytes = text.as_bytes();
    let hex = text.starts_with("0x") || text.starts_with("0X");
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let exponent = !hex && at > 0 && matches!(bytes[at - 1], b'e' | b'E');
        let more = byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_')
            || (exponent && matches!(byte, b'+' | b'-'));
        if !more {
            break;
        }
        at += 1;
    }
    at
}

/// How long a quoted text is, quotes included.
fn text(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != '`' {
            escaped = true;
        } else if c == quote {
            return Some(at + 1);
        }
    }
    None
}
