//! Durations as Prometheus writes them: `5m`, `1h30m`, `0`.

/// The units in the order in which they must stand, with their milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Longest duration: Go counts nanoseconds in a signed 64-bit integer.
const MAX_MILLIS: u64 = i64::MAX as u64 / 1_000_000;

/// Whether Prometheus' own reader takes this for a duration.
///
/// # Errors
/// With what is wrong and what would be right.
pub(super) fn check(text: &str) -> Result<(), String> {
    let wrong = || format!("{text:?} is no duration: write for example 5m, 1h30m or 0");
    if text == "0" {
        return Ok(());
    }
    let mut rest = text;
    let mut units = UNITS.as_slice();
    let mut total: u64 = 0;
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let length = tail.bytes().take_while(|b| !b.is_ascii_digit()).count();
        let unit = tail.get(..length).ok_or_else(wrong)?;
        let at = units.iter().position(|(known, _)| *known == unit).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        total = number
            .checked_mul(units[at].1)
            .and_then(|millis| total.checked_add(millis))
            .filter(|total| *total <= MAX_MILLIS)
            .ok_or_else(|| format!("{text:?} is too long a duration"))?;
        units = &units[at + 1..];
        rest = &tail[length..];
        if rest.is_empty() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn durations_are_prometheus_own() {
        for text in ["0", "5m", "1h30m", "1d", "90s", "1m500ms", "0s", "1y2w3d4h5m6s7ms"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in ["", "5", "5 minutes", "-5m", "5m1h", "5m5m", "1.5h", "m", "5µs", "ä"] {
            assert!(check(text).is_err(), "{text}");
        }
        assert_eq!(check("300y").unwrap_err(), "\"300y\" is too long a duration");
        assert!(check("99999999999999999999y").is_err());
    }
}
