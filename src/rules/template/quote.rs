//! Texts with quotes or escapes: `%q`, `html`, `js`, `urlquery`.

use super::print::Bounded;
use crate::rules::letters::is_printable;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The first character of bytes and how many bytes it takes; none, and one byte, where they are not
/// UTF-8. The bytes are not empty.
pub(super) fn decode(bytes: &[u8]) -> (Option<char>, usize) {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(c) => (Some(c), c.len_utf8()),
        None => (None, 1),
    }
}

/// The characters of bytes, each with its bytes.
pub(super) fn chars(bytes: &[u8]) -> impl Iterator<Item = (Option<char>, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (c, size) = decode(rest);
        let (head, tail) = rest.split_at(size);
        rest = tail;
        Some((c, head))
    })
}

/// `strconv.Quote`, or `strconv.QuoteToASCII`.
pub(super) fn quoted(bytes: &[u8], ascii: bool) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for (c, raw) in chars(bytes) {
        if let Some(c) = c {
            escape(c, '"', ascii, &mut out);
        } else {
            let byte = format!("\\x{:02x}", raw[0]);
            out.push_str(&byte);
        }
    }
    out.push('"');
    out
}

/// `strconv.QuoteRune`, or `strconv.QuoteRuneToASCII`.
pub(super) fn quoted_char(c: char, ascii: bool) -> String {
    let mut out = String::from("'");
    escape(c, '\'', ascii, &mut out);
    out.push('\'');
    out
}

/// `strconv.CanBackquote`.
pub(super) fn can_backquote(bytes: &[u8]) -> bool {
    chars(bytes).all(|(c, _)| {
        c.is_some_and(|c| c == '\t' || !(c < ' ' || matches!(c, '`' | '\u{7f}' | '\u{feff}')))
    })
}

fn escape(c: char, quote: char, ascii: bool, out: &mut String) {
    if c == quote || c == '\\' {
        out.push('\\');
        out.push(c);
        return;
    }
    if if ascii { c.is_ascii() } else { true } && is_printable(c) {
        out.push(c);
        return;
    }
    let letter = match c {
        '\x07' => 'a',
        '\x08' => 'b',
        '\x0c' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\x0b' => 'v',
        _ => {
            let number = u32::from(c);
            let code = match number {
                0..0x20 | 0x7f => format!("\\x{number:02x}"),
                0..=0xffff => format!("\\u{number:04x}"),
                _ => format!("\\U{number:08x}"),
            };
            out.push_str(&code);
            return;
        }
    };
    out.push('\\');
    out.push(letter);
}

/// `template.HTMLEscape`.
pub(super) fn html(bytes: &[u8], out: &mut Bounded) {
    for byte in bytes {
        match byte {
            0 => out.push("\u{fffd}".as_bytes()),
            b'"' => out.push(b"&#34;"),
            b'\'' => out.push(b"&#39;"),
            b'&' => out.push(b"&amp;"),
            b'<' => out.push(b"&lt;"),
            b'>' => out.push(b"&gt;"),
            byte => out.push(&[*byte]),
        }
    }
}

/// `template.JSEscape`.
pub(super) fn js(bytes: &[u8], out: &mut Bounded) {
    for (c, raw) in chars(bytes) {
        match c.unwrap_or(char::REPLACEMENT_CHARACTER) {
            '\\' => out.push(br"\\"),
            '\'' => out.push(br"\'"),
            '"' => out.push(b"\\\""),
            c @ ('<' | '>' | '&' | '=' | '\0'..' ') => {
                out.push(format!("\\u{:04X}", u32::from(c)).as_bytes());
            }
            c if c.is_ascii() || is_printable(c) => out.push(raw),
            c => out.push(format!("\\u{:04X}", u32::from(c)).as_bytes()),
        }
    }
}

/// `url.QueryEscape`.
pub(super) fn url_query(bytes: &[u8], out: &mut Bounded) {
    for &byte in bytes {
        match byte {
            b' ' => out.push(b"+"),
            b'-' | b'_' | b'.' | b'~' => out.push(&[byte]),
            _ if byte.is_ascii_alphanumeric() => out.push(&[byte]),
            _ => out.push(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}
