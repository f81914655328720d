//! Go's literals.

/// A number: Go's untyped constant, by the rules of `text/template` for where no type is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    /// Fits 64 bits, but not with a sign.
    TooLarge,
    Float(f64),
}

/// Reads a number.
pub(super) fn number(text: &str) -> Result<Number, String> {
    if text.ends_with('i') {
        return Err(format!("complex numbers are not supported here: {text}"));
    }
    let illegal = || format!("illegal number syntax: {text:?}");
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if !underscores_separate(digits) {
        return Err(illegal());
    }
    let plain = digits.replace('_', "");
    if let Some(magnitude) = magnitude(&plain) {
        let signed = i128::from(magnitude) * if negative { -1 } else { 1 };
        if let Ok(int) = i64::try_from(signed) {
            return Ok(Number::Int(int));
        }
        if !text.starts_with(['-', '+']) {
            return Ok(Number::TooLarge);
        }
    }
    if plain.len() > 1 && plain.as_bytes()[0] == b'0' && plain.as_bytes()[1].is_ascii_alphabetic() {
        if plain.contains(['p', 'P']) {
            return Err(format!("hexadecimal floats are not supported here: {text}"));
        }
        if !matches!(plain.as_bytes()[1], b'e' | b'E') {
            return Err(illegal());
        }
    }
    let float: f64 = plain.parse().map_err(|_| illegal())?;
    if !plain.contains(['.', 'e', 'E']) {
        return Err(format!("integer overflow: {text:?}"));
    }
    if float.is_infinite() {
        return Err(illegal());
    }
    Ok(Number::Float(if negative { -float } else { float }))
}

/// `strconv.ParseUint` with base 0, without underscores and sign.
fn magnitude(digits: &str) -> Option<u64> {
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', _, ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', _, ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // Rust takes a sign here.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// `strconv.underscoreOK`: underscores only between digits, or after the base.
fn underscores_separate(digits: &str) -> bool {
    let bytes = digits.as_bytes();
    let based = bytes.len() >= 2
        && bytes[0] == b'0'
        && matches!(bytes[1].to_ascii_lowercase(), b'b' | b'o' | b'x');
    let hex = based && bytes[1].eq_ignore_ascii_case(&b'x');
    let mut last = if based { b'0' } else { b'^' };
    for &byte in &bytes[if based { 2 } else { 0 }..] {
        let digit = byte.is_ascii_digit() || (hex && byte.is_ascii_hexdigit());
        if (byte == b'_' && last != b'0') || (byte != b'_' && !digit && last == b'_') {
            return false;
        }
        last = match byte {
            _ if digit => b'0',
            b'_' => b'_',
            _ => b'!',
        };
    }
    last != b'_'
}

/// `strconv.Unquote` of a string, with its quotes. Go's strings are bytes.
pub(super) fn string(quoted: &str) -> Result<Vec<u8>, String> {
    let body = &quoted[1..quoted.len() - 1];
    if quoted.starts_with('`') {
        return Ok(body.bytes().filter(|&byte| byte != b'\r').collect());
    }
    let mut bytes = Vec::with_capacity(body.len());
    let mut rest = body;
    while !rest.is_empty() {
        let (unit, tail) = unquote_char(rest, '"').ok_or("invalid syntax in a string")?;
        match unit {
            Unit::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Unit::Byte(byte) => bytes.push(byte),
        }
        rest = tail;
    }
    Ok(bytes)
}

/// The number of a character constant, with its quotes.
pub(super) fn char_constant(quoted: &str) -> Result<i64, String> {
    let (unit, tail) =
        unquote_char(&quoted[1..], '\'').ok_or("invalid syntax in a character constant")?;
    if tail != "'" {
        return Err(format!("malformed character constant: {quoted}"));
    }
    Ok(match unit {
        Unit::Char(c) => i64::from(u32::from(c)),
        Unit::Byte(byte) => i64::from(byte),
    })
}

enum Unit {
    Char(char),
    /// `\xff` or `\377` in a string is one byte.
    Byte(u8),
}

/// `strconv.UnquoteChar`.
fn unquote_char(text: &str, quote: char) -> Option<(Unit, &str)> {
    let mut chars = text.chars();
    let c = chars.next()?;
    if c == quote {
        return None;
    }
    if c != '\\' {
        return Some((Unit::Char(c), chars.as_str()));
    }
    let escape = chars.next()?;
    let rest = chars.as_str();
    let plain = |c| Some((Unit::Char(c), rest));
    match escape {
        'a' => plain('\x07'),
        'b' => plain('\x08'),
        'f' => plain('\x0c'),
        'n' => plain('\n'),
        'r' => plain('\r'),
        't' => plain('\t'),
        'v' => plain('\x0b'),
        '\\' => plain('\\'),
        '\'' | '"' if escape == quote => plain(escape),
        'x' => {
            let (number, rest) = digits(rest, 2, 16)?;
            Some((Unit::Byte(u8::try_from(number).ok()?), rest))
        }
        'u' | 'U' => {
            let (number, rest) = digits(rest, if escape == 'u' { 4 } else { 8 }, 16)?;
            Some((Unit::Char(char::from_u32(number)?), rest))
        }
        '0'..='7' => {
            let (number, rest) = digits(&text[1..], 3, 8)?;
            Some((Unit::Byte(u8::try_from(number).ok()?), rest))
        }
        _ => None,
    }
}

fn digits(text: &str, count: usize, radix: u32) -> Option<(u32, &str)> {
    let (head, rest) = text.split_at_checked(count)?;
    let number = head
        .chars()
        .try_fold(0_u32, |number, c| number.checked_mul(radix)?.checked_add(c.to_digit(radix)?))?;
    Some((number, rest))
}
