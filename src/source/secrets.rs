//! Secrets that go out with a request, blotted out of what comes back: an upstream may echo what it
//! got, as it was or in an encoding of its own.
//!
//! Not responsible for: what is a secret. Whoever sends one says so.
//!
//! # Invariants
//!
//! * A secret is found in plain and in JSON, percent-encoding and HTML, also where a part of it is
//!   encoded only, and where the end of the text cuts it off.
//! * A text without a secret costs no allocation.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

/// Stands for a secret.
const BLOT: &str = "[secret]";

/// An echo is told from a word of everyday use from this many bytes on. Passwords may be shorter:
/// they are blotted out of texts, and a label that happens to be one is no echo.
const MIN_ECHO: usize = 12;

/// So many bytes of a longer secret are that secret: somebody cut it.
const HEAD: usize = 24;

/// So many bytes of a secret at the very end of a text are that secret, cut off by the text's
/// bound. Fewer help nobody.
const MIN_CUT: usize = 6;

/// Longest encoding of one character: `\u00e9`, `&#x002F;`.
const MAX_ESCAPE: usize = 8;

/// What a bounded text ends with.
const ELLIPSIS: &[u8] = "…".as_bytes();

/// HTML's names of characters that secrets have.
const ENTITIES: [(&str, u8); 8] = [
    ("amp", b'&'),
    ("apos", b'\''),
    ("equals", b'='),
    ("gt", b'>'),
    ("lt", b'<'),
    ("plus", b'+'),
    ("quot", b'"'),
    ("sol", b'/'),
];

/// Some secrets. `Debug` shows none.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Secrets(Vec<Secret>);

#[derive(Clone, PartialEq, Eq)]
struct Secret {
    text: String,
    /// Whether it is one for certain.
    sure: bool,
}

/// Where in a text a secret may be cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The text is whole.
    Whole,
    /// The text has a bound.
    Bounded,
}

impl Secrets {
    /// A secret.
    pub(super) fn add(&mut self, text: &str) {
        self.push(text, true);
    }

    /// What may be one: it is blotted out of texts, and data may contain it.
    pub(super) fn add_guess(&mut self, text: &str) {
        self.push(text, false);
    }

    fn push(&mut self, text: &str, sure: bool) {
        let secret = Secret { text: text.to_owned(), sure };
        if !text.is_empty() && !self.0.contains(&secret) {
            self.0.push(secret);
        }
    }

    /// These as well.
    pub(super) fn extend(&mut self, more: &Self) {
        for secret in &more.0 {
            self.push(&secret.text, secret.sure);
        }
    }

    /// A text with every secret blotted out.
    pub(super) fn blot<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = String::new();
        let (mut from, mut at) = (0, 0);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let one = rest.chars().next().map_or(1, char::len_utf8);
            let told = self.0.iter().filter_map(|secret| secret.told(rest, End::Bounded)).max();
            let Some(told) = told else {
                at += one;
                continue;
            };
            out.push_str(&text[from..at]);
            out.push_str(BLOT);
            at += told;
            while !text.is_char_boundary(at) {
                at += 1;
            }
            from = at;
        }
        if from == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[from..]);
        Cow::Owned(out)
    }

    /// JSON with every secret blotted out of its texts and names.
    pub(super) fn blot_json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.blot(&text).into_owned()),
            Value::Array(items) => items.into_iter().map(|item| self.blot_json(item)).collect(),
            Value::Object(pairs) => pairs
                .into_iter()
                .map(|(key, value)| (self.blot(&key).into_owned(), self.blot_json(value)))
                .collect(),
            other => other,
        }
    }

    /// Whether data has a secret in it. What is short or uncertain is none.
    pub(super) fn are_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| {
            let sure = secret.sure && secret.text.len() >= MIN_ECHO;
            // No encoding is shorter than what it encodes.
            sure && text.len() >= secret.text.len().min(HEAD)
                && text.char_indices().any(|(at, _)| secret.told(&text[at..], End::Whole).is_some())
        })
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secret {
    /// How many bytes at the start of a text tell this secret; none if they do not.
    fn told(&self, text: &str, end: End) -> Option<usize> {
        let (text, secret) = (text.as_bytes(), self.text.as_bytes());
        let first = *text.first()?;
        if first != secret[0] && !matches!(first, b'\\' | b'%' | b'&' | b'+' | b'-' | b'_') {
            return None;
        }
        if text.starts_with(secret) {
            return Some(secret.len());
        }
        let (mut at, mut told) = (0, 0);
        while told < secret.len() {
            let Some((width, count)) = step(&text[at..], &secret[told..]) else { break };
            (at, told) = (at + width, told + count);
        }
        if told == secret.len() || told >= HEAD {
            return Some(at);
        }
        let rest = &text[at..];
        let escape = matches!(rest.first(), Some(b'\\' | b'%' | b'&')) && rest.len() < MAX_ESCAPE;
        let cut = rest.is_empty() || rest == ELLIPSIS || escape;
        (cut && end == End::Bounded && told >= MIN_CUT && secret.len() >= MIN_ECHO).then_some(at)
    }
}

/// The next character of a text, if the secret goes on with it: how many bytes of the text and how
/// many of the secret it takes.
fn step(text: &[u8], secret: &[u8]) -> Option<(usize, usize)> {
    let first = *text.first()?;
    if let Some((width, bytes)) = decoded(text)
        && secret.starts_with(bytes.as_slice())
    {
        return Some((width, bytes.as_slice().len()));
    }
    match (first, secret[0]) {
        (told, meant) if told == meant => Some((1, 1)),
        // A form's space; base64 for URLs.
        (b'+', b' ') | (b'-', b'+') | (b'_', b'/') => Some((1, 1)),
        // An escape of what follows, maybe repeatedly; not one that is cut off itself.
        (b'\\', _) if text.get(1) != Some(&b'u') || text.len() >= 6 => Some((1, 0)),
        _ => None,
    }
}

/// Up to four bytes.
struct Bytes([u8; 4], usize);

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        &self.0[..self.1]
    }

    fn of(character: u32) -> Option<Self> {
        let mut bytes = [0; 4];
        let length = char::from_u32(character)?.encode_utf8(&mut bytes).len();
        Some(Self(bytes, length))
    }
}

/// A character that is encoded at the start of a text, and the length of its encoding.
fn decoded(text: &[u8]) -> Option<(usize, Bytes)> {
    match text {
        [b'\\', b'u', hex @ ..] => Some((6, Bytes::of(number(hex.get(..4)?, 16)?)?)),
        [b'%', rest @ ..] => {
            let mut width = 1;
            let mut hex = rest;
            // Encoded twice and more: %252F.
            while let [b'2', b'5', next @ ..] = hex
                && number(next.get(..2).unwrap_or_default(), 16).is_some()
            {
                (width, hex) = (width + 2, next);
            }
            let byte = u8::try_from(number(hex.get(..2)?, 16)?).ok()?;
            Some((width + 2, Bytes([byte, 0, 0, 0], 1)))
        }
        [b'&', rest @ ..] => {
            let length = rest.iter().take(MAX_ESCAPE).position(|&byte| byte == b';')?;
            let name = &rest[..length];
            let bytes = match name {
                [b'#', b'x' | b'X', hex @ ..] => Bytes::of(number(hex, 16)?)?,
                [b'#', digits @ ..] => Bytes::of(number(digits, 10)?)?,
                _ => {
                    let known = ENTITIES.iter().find(|(known, _)| known.as_bytes() == name)?;
                    Bytes([known.1, 0, 0, 0], 1)
                }
            };
            Some((length + 2, bytes))
        }
        _ => None,
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok()?;
    // `from_str_radix` takes a sign.
    let clean = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    clean.then(|| u32::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "IQoJ/b3Jp+Z2lu=X2VjE<&\"'>\\é% x";

    fn secrets(all: &[&str]) -> Secrets {
        let mut secrets = Secrets::default();
        for text in all {
            secrets.add(text);
        }
        secrets
    }

    fn percent(text: &str, upper: bool) -> String {
        text.bytes().fold(String::new(), |mut out, byte| {
            let _ = match (byte.is_ascii_alphanumeric(), upper) {
                (true, _) => write!(out, "{}", char::from(byte)),
                (false, true) => write!(out, "%{byte:02X}"),
                (false, false) => write!(out, "%{byte:02x}"),
            };
            out
        })
    }

    fn html(text: &str, special: &dyn Fn(char) -> String) -> String {
        text.chars().map(|c| if c.is_alphanumeric() { c.into() } else { special(c) }).collect()
    }

    #[test]
    fn a_secret_is_found_in_every_encoding() {
        let (secrets, all) = (secrets(&[TOKEN, "hunter2"]), TOKEN);
        let quoted = serde_json::to_string(all).unwrap();
        let quoted = quoted.trim_matches('"').to_owned();
        let unicode = |c: char| format!("\\u{:04x}", u32::from(c));
        for echo in [
            all.to_owned(),
            quoted.clone(),
            quoted.replace('/', "\\/"),
            quoted.replace('/', "\\/").replace('\\', "\\\\"),
            all.chars().map(unicode).collect(),
            html(all, &unicode),
            percent(all, true),
            percent(all, false),
            percent(all, true).replace('%', "%25"),
            percent(all, true).replace("%20", "+"),
            all.replace('/', "%2F"),
            html(all, &|c| format!("&#{};", u32::from(c))),
            html(all, &|c| format!("&#x{:X};", u32::from(c))),
            all.replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;")
                .replace('\'', "&#39;")
                .replace('/', "&sol;"),
            all.replace('+', "-").replace('/', "_"),
        ] {
            let said = secrets.blot(&format!("é got {echo} from you, and hunter2")).into_owned();
            assert_eq!(said, "é got [secret] from you, and [secret]", "{echo}");
            assert!(secrets.are_in(&format!("é{echo}x")), "{echo}");
            assert_eq!(
                secrets.blot_json(json!({echo.clone(): [echo]})),
                json!({"[secret]": ["[secret]"]})
            );
        }
        assert_eq!(format!("{secrets:?}"), "Secrets(2)");
    }

    #[test]
    fn a_secret_that_is_cut_off_is_found() {
        let secrets = secrets(&["0123456789abcdefghijklmnopqrstuvwxyz"]);
        for (text, expected) in [
            ("has 012345", "has [secret]"),
            ("has 0123456…", "has [secret]…"),
            ("has 012345\\u00", "has [secret]\\u00"),
            ("has 01234", "has 01234"),
            ("has 012345 and more", "has 012345 and more"),
            ("has 0123456789abcdefghijklmn and more", "has [secret] and more"),
        ] {
            assert_eq!(secrets.blot(text), expected);
        }
        assert!(!secrets.are_in("012345"));
        assert!(secrets.are_in("0123456789abcdefghijklmn"));
    }

    #[test]
    fn what_is_short_or_a_guess_may_be_in_data() {
        let mut secrets = secrets(&["prometheus", ""]);
        secrets.add_guess("team-payments-production");
        let text = "prometheus of team-payments-production";
        assert!(!secrets.are_in(text));
        assert_eq!(secrets.blot(text), "[secret] of [secret]");
        assert!(matches!(secrets.blot("nothing to see"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn any_text_is_taken(secret in "\\PC{1,40}", text in "\\PC{0,60}") {
            let secrets = secrets(&[&secret]);
            let said = secrets.blot(&format!("{text}{secret}{text}")).into_owned();
            prop_assert!(said.contains(BLOT));
            secrets.are_in(&text);
        }

        #[test]
        fn odd_escapes_are_taken(text in "[\\\\u%&#x;a0-9é]{0,40}") {
            let secrets = secrets(&["a0%\\&u9é;#x0000"]);
            secrets.are_in(&text);
            secrets.blot(&text);
        }
    }
}
