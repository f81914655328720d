//! Durations as Go's `time.ParseDuration` reads them, for the `timeout` parameter.

use std::time::Duration;

/// Reads a duration. Zero and negative ones mean "no limit of the client's own": `None`.
///
/// # Errors
/// With Go's complaint.
pub(super) fn parse(text: &str) -> Result<Option<Duration>, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(None);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
        let whole_length = digits(rest);
        let (whole, after) = rest.split_at(whole_length);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_length =
            after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        let nanos: u64 = match unit {
            "ns" => 1,
            // The micro sign and the Greek letter.
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        let mut part = if whole.is_empty() {
            0
        } else {
            whole.parse::<u64>().ok().and_then(|n| n.checked_mul(nanos)).ok_or_else(invalid)?
        };
        let mut scale = nanos;
        for digit in fraction.bytes() {
            scale /= 10;
            part = part.checked_add(u64::from(digit - b'0') * scale).ok_or_else(invalid)?;
        }
        // Go's durations are int64 nanoseconds.
        total =
            total.checked_add(part).filter(|n| i64::try_from(*n).is_ok()).ok_or_else(invalid)?;
        rest = after;
    }
    Ok((total > 0 && !negative).then(|| Duration::from_nanos(total)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_go_durations() {
        for (text, millis) in [
            ("1ms", Some(1)),
            ("1.5s", Some(1_500)),
            (".5s", Some(500)),
            ("1.s", Some(1_000)),
            ("1h30m", Some(5_400_000)),
            ("10m", Some(600_000)),
            ("2000us", Some(2)),
            ("2000\u{b5}s", Some(2)),
            ("+3s", Some(3_000)),
            ("0", None),
            ("0s", None),
            ("-5s", None),
        ] {
            assert_eq!(parse(text), Ok(millis.map(Duration::from_millis)), "{text}");
        }
    }

    #[test]
    fn complains_as_go_does() {
        for (text, complaint) in [
            ("abc", "time: invalid duration \"abc\""),
            ("-", "time: invalid duration \"-\""),
            (".s", "time: invalid duration \".s\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("5 s", "time: unknown unit \" s\" in duration \"5 s\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
            ("99999999999999999999s", "time: invalid duration \"99999999999999999999s\""),
        ] {
            assert_eq!(parse(text), Err(complaint.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+.0-9smhnu\\PC]{0,24}") {
            let _ = parse(&text);
        }
    }
}
