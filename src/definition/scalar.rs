//! The scalar types of documents: durations, quantities, and what `onNoData` says.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

use crate::model::{Decimal, OnNoData};

/// A duration as Go writes it: `15s`, `1h30m`, `500ms`. Never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

/// Why a text is not a duration that we take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// A number without a unit.
    #[error("the duration {0} has no unit; write it like {0}s, 2m or 1h30m")]
    NoUnit(String),
    /// Below zero.
    #[error("the duration {0} is negative")]
    Negative(String),
    /// Longer than any clock of ours.
    #[error("the duration {0} is too long")]
    TooLong(String),
    /// Something else.
    #[error("{0:?} is not a duration; write it like 15s, 2m, 1h30m or 500ms")]
    Malformed(String),
}

/// Most characters of a duration or a quantity: none that people write needs more, and the API
/// server wants a bound.
pub const MAX_CHARACTERS: usize = 64;

/// Longest duration: a century, far from every overflow in millisecond arithmetic.
const LONGEST: Duration = Duration::from_hours(100 * 366 * 24);

/// Nanoseconds of each unit of Go's `time.ParseDuration`.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl FromStr for GoDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shown = || text.chars().take(40).collect::<String>();
        let malformed = || InvalidDuration::Malformed(shown());
        if text.chars().count() > MAX_CHARACTERS {
            return Err(malformed());
        }
        let body = match text.strip_prefix('-') {
            Some("0") => "0",
            Some(rest) => {
                // Only what would be a duration without its sign is a negative one.
                rest.parse::<Self>().map_err(|_| malformed())?;
                return Err(InvalidDuration::Negative(shown()));
            }
            None => text.strip_prefix('+').unwrap_or(text),
        };
        if body == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if body.starts_with(['+', '-']) {
            return Err(malformed());
        }
        let mut rest = body;
        let mut nanos = 0_u128;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(end);
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
                return Err(malformed());
            }
            let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            if unit.is_empty() && rest == body {
                return Err(InvalidDuration::NoUnit(shown()));
            }
            let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
            let too_long = || InvalidDuration::TooLong(shown());
            let whole: u64 =
                if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_long())? };
            nanos += u128::from(whole) * size;
            // Digits below a nanosecond of an hour do not matter.
            let mut share = *size;
            for digit in fraction.bytes().take(18) {
                share /= 10;
                nanos += u128::from(digit - b'0') * share;
            }
            if nanos > LONGEST.as_nanos() {
                return Err(too_long());
            }
            rest = tail;
        }
        if body.is_empty() {
            return Err(malformed());
        }
        let nanos = u64::try_from(nanos).map_err(|_| InvalidDuration::TooLong(shown()))?;
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for GoDuration {
    /// As people write it: `1h30m`, `2m`, `1.5s`, `500ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if seconds == 0 && nanos > 0 {
            return match nanos {
                n if n % 1_000_000 == 0 => write!(f, "{}ms", n / 1_000_000),
                n if n % 1_000 == 0 => write!(f, "{}us", n / 1_000),
                n => write!(f, "{n}ns"),
            };
        }
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        if nanos > 0 {
            let fraction = format!("{nanos:09}");
            write!(f, "{seconds}.{}s", fraction.trim_end_matches('0'))
        } else if seconds > 0 || (hours == 0 && minutes == 0) {
            write!(f, "{seconds}s")
        } else {
            Ok(())
        }
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = GoDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like 15s or 1h30m")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<GoDuration, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<GoDuration, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<GoDuration, E> {
                Err(E::custom(InvalidDuration::Negative(value.to_string())))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<GoDuration, E> {
                // Also of 0.0, which prints as 0.
                Err(E::custom(InvalidDuration::NoUnit(value.to_string())))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A Kubernetes quantity, written as a number or as text: `0.5`, `"500m"`, `2k`.
#[derive(Clone, Debug, PartialEq)]
pub struct Number(pub Decimal);

struct NumberReader;

impl Visitor<'_> for NumberReader {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number like 42, 0.5, 500m or 2k")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
        if text.chars().count() > MAX_CHARACTERS {
            let message = format_args!("a number has at most {MAX_CHARACTERS} characters");
            return Err(E::custom(message));
        }
        Decimal::parse_quantity(text).map(Number).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Number, E> {
        Ok(Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Number, E> {
        Ok(Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Number, E> {
        Decimal::from_f64(value)
            .map(Number)
            .ok_or_else(|| E::custom(format_args!("{value} is not a finite number")))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberReader)
    }
}

/// `onNoData`: `error`, `hold` or a number.
#[derive(Clone, Debug, PartialEq)]
pub struct NoData(pub OnNoData);

impl<'de> Deserialize<'de> for NoData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = NoData;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("error, hold or a number")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<NoData, E> {
                match text {
                    "error" => Ok(NoData(OnNoData::Error)),
                    "hold" => Ok(NoData(OnNoData::Hold)),
                    _ => match NumberReader.visit_str::<E>(text) {
                        Ok(number) => Ok(NoData(OnNoData::Value(number.0))),
                        Err(_) => Err(E::invalid_type(Unexpected::Str(text), &self)),
                    },
                }
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<NoData, E> {
                Ok(NoData(OnNoData::Value(value.into())))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<NoData, E> {
                Ok(NoData(OnNoData::Value(value.into())))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<NoData, E> {
                NumberReader.visit_f64(value).map(|number| NoData(OnNoData::Value(number.0)))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_prints_durations() {
        for (text, millis, shown) in [
            ("15s", 15_000, "15s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("500ms", 500, "500ms"),
            ("1.5s", 1500, "1.5s"),
            ("90s", 90_000, "1m30s"),
            ("2m", 120_000, "2m"),
            ("0", 0, "0s"),
            ("-0", 0, "0s"),
            ("0s", 0, "0s"),
            (".5h", 1_800_000, "30m"),
            ("+1h", 3_600_000, "1h"),
        ] {
            let duration: GoDuration = text.parse().unwrap();
            assert_eq!(duration.0, Duration::from_millis(millis), "{text}");
            assert_eq!(duration.to_string(), shown);
        }
    }

    #[test]
    fn refuses_what_is_not_a_duration() {
        for (text, message) in [
            ("15", "the duration 15 has no unit; write it like 15s, 2m or 1h30m"),
            ("-15s", "the duration -15s is negative"),
            ("", "\"\" is not a duration; write it like 15s, 2m, 1h30m or 500ms"),
            ("1d", "\"1d\" is not a duration; write it like 15s, 2m, 1h30m or 500ms"),
            ("s", "\"s\" is not a duration; write it like 15s, 2m, 1h30m or 500ms"),
            ("--1s", "\"--1s\" is not a duration; write it like 15s, 2m, 1h30m or 500ms"),
            ("1h 5m", "\"1h 5m\" is not a duration; write it like 15s, 2m, 1h30m or 500ms"),
            ("1h5", "\"1h5\" is not a duration; write it like 15s, 2m, 1h30m or 500ms"),
            ("9999999h", "the duration 9999999h is too long"),
            ("99999999999999999999s", "the duration 99999999999999999999s is too long"),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(nanos in 0_u64..10_u64.pow(18)) {
            let duration = GoDuration(Duration::from_nanos(nanos));
            prop_assert_eq!(duration.to_string().parse::<GoDuration>(), Ok(duration));
        }

        #[test]
        fn never_panics(text in "[-+0-9.nuµmsh]{0,20}|.{0,10}") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
