//! Decimal arithmetic for metric values.
//!
//! Upstreams send decimal text (`"64.1"`), users write decimal factors (`"0.001"`) and the API
//! answers in decimal milli-units. Going through binary floating point would turn 64.1 into
//! `64099m`, as adapters that do so show; so values stay decimal from end to end.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Digits that a mantissa keeps. 30 digits leave room in `i128` (38 digits) to align two
/// exponents and to add.
const MAX_DIGITS: u32 = 30;

/// Numbers beyond 10^±400 do not occur (`f64` ends at 1e308); clamping exponents there keeps the
/// arithmetic free of overflow.
const MAX_EXPONENT: i32 = 400;

/// Digits after the point that a division keeps.
const DIVISION_DIGITS: i32 = 18;

/// Why a text is not a decimal number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDecimal {
    /// NaN or an infinity: a number to computers, not a sample to us.
    #[error("{0} is not a finite number")]
    NotFinite(String),
    /// Something else.
    #[error("{0:?} is not a number; write it like 42, 0.5, 1e3, 500m, 2k or 1Gi")]
    NotANumber(String),
}

/// A decimal number: `mantissa × 10^exponent`, always normalised (no trailing zero in the
/// mantissa; zero has exponent 0), so that equal numbers are equal values.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Decimal {
    mantissa: i128,
    exponent: i32,
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { mantissa: 0, exponent: 0 };
    /// One.
    pub const ONE: Self = Self { mantissa: 1, exponent: 0 };

    /// `mantissa × 10^exponent`. Digits beyond the 30th are rounded half away from zero.
    #[must_use]
    pub fn new(mantissa: i128, exponent: i32) -> Self {
        let (mut m, mut e) = (mantissa, exponent);
        let digits = m.unsigned_abs().checked_ilog10().map_or(1, |d| d + 1);
        if digits > MAX_DIGITS {
            let cut = digits - MAX_DIGITS;
            m = div_round(m, 10_i128.pow(cut));
            e = e.saturating_add(cut.cast_signed());
        }
        while m != 0 && m % 10 == 0 {
            m /= 10;
            e = e.saturating_add(1);
        }
        if m == 0 || e < -MAX_EXPONENT {
            return Self::ZERO;
        }
        Self { mantissa: m, exponent: e.min(MAX_EXPONENT) }
    }

    /// The shortest decimal that reads back as `value`; `None` for NaN and infinities.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        // `{:e}` prints the shortest digits that round-trip, so 64.1 is 64.1 and not its binary
        // neighbour.
        parse_plain(&format!("{value:e}"))
    }

    /// The nearest `f64`.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        format!("{}e{}", self.mantissa, self.exponent).parse().unwrap_or(f64::NAN)
    }

    /// Sum.
    #[must_use]
    pub fn add(&self, other: &Self) -> Self {
        let (big, small) =
            if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        if big.mantissa == 0 {
            return small.clone();
        }
        if small.mantissa == 0 {
            return big.clone();
        }
        let gap = big.exponent.abs_diff(small.exponent);
        let digits = big.mantissa.unsigned_abs().ilog10() + 1;
        // Aligning would need more digits than we keep: `big` alone is the rounded sum.
        let Some(aligned) = (digits + gap <= 37)
            .then(|| 10_i128.checked_pow(gap).and_then(|f| big.mantissa.checked_mul(f)))
            .flatten()
        else {
            // Shift `small` down instead, as far as `big` can be widened.
            let widen = 36_u32.saturating_sub(digits);
            let wide = big.mantissa * 10_i128.pow(widen);
            let rest = gap - widen;
            let low = if rest > 37 { 0 } else { div_round(small.mantissa, 10_i128.pow(rest)) };
            return Self::new(wide.saturating_add(low), big.exponent - widen.cast_signed());
        };
        Self::new(aligned.saturating_add(small.mantissa), small.exponent)
    }

    /// Product.
    #[must_use]
    pub fn mul(&self, other: &Self) -> Self {
        if self.mantissa == 0 || other.mantissa == 0 {
            return Self::ZERO;
        }
        let exponent = self.exponent.saturating_add(other.exponent);
        if let Some(mantissa) = self.mantissa.checked_mul(other.mantissa) {
            return Self::new(mantissa, exponent);
        }
        // Two long mantissas: 18 significant digits of each are enough for a milli result.
        let (a, ea) = shorten(self);
        let (b, eb) = shorten(other);
        Self::new(a * b, exponent.saturating_add(ea).saturating_add(eb))
    }

    /// Quotient by a count, to 18 digits after the last digit of `self`.
    ///
    /// # Panics
    /// When `divisor` is zero.
    #[must_use]
    pub fn div(&self, divisor: u64) -> Self {
        assert!(divisor != 0, "the caller counts before it divides");
        let digits = self.mantissa.unsigned_abs().checked_ilog10().map_or(1, |d| d + 1);
        let widen = DIVISION_DIGITS.min(36 - digits.cast_signed()).max(0);
        let wide = self.mantissa * 10_i128.pow(widen.unsigned_abs());
        Self::new(div_round(wide, i128::from(divisor)), self.exponent - widen)
    }

    /// The number in thousandths, rounded half away from zero, or `None` when it does not fit.
    #[must_use]
    pub fn to_milli(&self) -> Option<i64> {
        let shift = self.exponent + 3;
        let milli = if shift >= 0 {
            10_i128.checked_pow(shift.unsigned_abs())?.checked_mul(self.mantissa)?
        } else if shift < -37 {
            0
        } else {
            div_round(self.mantissa, 10_i128.pow(shift.unsigned_abs()))
        };
        i64::try_from(milli).ok()
    }

    /// Whether the number is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.mantissa < 0
    }

    /// Reads a Kubernetes quantity: a decimal number, an exponent form, or a number with one of
    /// the suffixes `n u m k M G T P E Ki Mi Gi Ti Pi Ei`.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse_quantity(text: &str) -> Result<Self, InvalidDecimal> {
        const SUFFIXES: [(&str, i128, i32); 15] = [
            ("Ki", 1 << 10, 0),
            ("Mi", 1 << 20, 0),
            ("Gi", 1 << 30, 0),
            ("Ti", 1 << 40, 0),
            ("Pi", 1 << 50, 0),
            ("Ei", 1 << 60, 0),
            ("n", 1, -9),
            ("u", 1, -6),
            ("m", 1, -3),
            ("k", 1, 3),
            ("M", 1, 6),
            ("G", 1, 9),
            ("T", 1, 12),
            ("P", 1, 15),
            ("E", 1, 18),
        ];
        for (suffix, factor, exponent) in SUFFIXES {
            if let Some(number) = text.strip_suffix(suffix)
                && let Some(value) = parse_plain(number)
            {
                return Ok(value.mul(&Self::new(factor, exponent)));
            }
        }
        text.parse()
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self::new(i128::from(value), 0)
    }
}

impl From<u64> for Decimal {
    fn from(value: u64) -> Self {
        Self::new(i128::from(value), 0)
    }
}

impl FromStr for Decimal {
    type Err = InvalidDecimal;

    /// Reads `42`, `-0.5`, `1.5e-7`: what Prometheus and people write. Refuses NaN and infinities.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(value) = parse_plain(text) {
            return Ok(value);
        }
        match text.trim_start_matches(['+', '-']).to_ascii_lowercase().as_str() {
            "nan" | "inf" | "infinity" => Err(InvalidDecimal::NotFinite(text.to_owned())),
            _ => Err(InvalidDecimal::NotANumber(text.chars().take(40).collect())),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let negated = Self { mantissa: -other.mantissa, exponent: other.exponent };
        self.add(&negated).mantissa.cmp(&0)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.exponent > 30 || self.exponent < -60 {
            return write!(f, "{}e{}", self.mantissa, self.exponent);
        }
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = self.mantissa.unsigned_abs().to_string();
        if self.exponent >= 0 {
            let zeros = self.exponent.unsigned_abs() as usize;
            return write!(f, "{sign}{digits}{:0<zeros$}", "");
        }
        let point = self.exponent.unsigned_abs() as usize;
        let padded = format!("{digits:0>width$}", width = point + 1);
        let (whole, fraction) = padded.split_at(padded.len() - point);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Division rounding half away from zero.
fn div_round(value: i128, divisor: i128) -> i128 {
    let (quotient, rest) = (value / divisor, value % divisor);
    if rest.unsigned_abs() >= divisor.unsigned_abs().div_ceil(2) {
        quotient + value.signum()
    } else {
        quotient
    }
}

/// The mantissa cut to 18 significant digits, and by how many digits.
fn shorten(value: &Decimal) -> (i128, i32) {
    let digits = value.mantissa.unsigned_abs().checked_ilog10().map_or(1, |d| d + 1);
    let cut = digits.saturating_sub(18);
    (div_round(value.mantissa, 10_i128.pow(cut)), cut.cast_signed())
}

/// `[+-]digits[.digits][e[+-]digits]`, nothing else.
fn parse_plain(text: &str) -> Option<Decimal> {
    let (body, exponent) = match text.split_once(['e', 'E']) {
        Some((body, exponent)) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            // An exponent too long for i32 is beyond every clamp anyway.
            let limit = if exponent.starts_with('-') { -100_000 } else { 100_000 };
            (body, exponent.parse::<i32>().unwrap_or(limit).clamp(-100_000, 100_000))
        }
        None => (text, 0),
    };
    let (negative, body) = match body.as_bytes().first()? {
        b'-' => (true, &body[1..]),
        b'+' => (false, &body[1..]),
        _ => (false, body),
    };
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut mantissa = 0_i128;
    let mut exponent = exponent;
    let mut kept = 0_u32;
    for (i, byte) in whole.bytes().chain(fraction.bytes()).enumerate() {
        if !byte.is_ascii_digit() {
            return None;
        }
        let in_fraction = i >= whole.len();
        if kept < MAX_DIGITS + 1 {
            mantissa = mantissa * 10 + i128::from(byte - b'0');
            kept += u32::from(mantissa != 0);
            exponent -= i32::from(in_fraction);
        } else {
            // Digits beyond what we keep count only for the size of the number.
            exponent += i32::from(!in_fraction);
        }
    }
    Some(Decimal::new(if negative { -mantissa } else { mantissa }, exponent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn d(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn reads_what_prometheus_writes() {
        for (text, shown) in [
            ("0", "0"),
            ("-0", "0"),
            ("42", "42"),
            ("64.1", "64.1"),
            ("1.5e-07", "0.00000015"),
            ("1e+06", "1000000"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1.7976931348623157e+308", "17976931348623157e292"),
        ] {
            assert_eq!(d(text).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_number() {
        for text in ["NaN", "+Inf", "-Inf", "inf"] {
            assert_eq!(text.parse::<Decimal>(), Err(InvalidDecimal::NotFinite(text.into())));
        }
        for text in ["", "-", ".", "1e", "1e+", "0x10", "1_000", "1 ", "١"] {
            assert_eq!(
                text.parse::<Decimal>(),
                Err(InvalidDecimal::NotANumber(text.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn reads_quantities() {
        for (text, shown) in [
            ("500m", "0.5"),
            ("2k", "2000"),
            ("1Gi", "1073741824"),
            ("1.5", "1.5"),
            ("3E", "3000000000000000000"),
            ("2e3", "2000"),
            ("1E3", "1000"),
        ] {
            assert_eq!(Decimal::parse_quantity(text).unwrap().to_string(), shown);
        }
        assert!(Decimal::parse_quantity("5 apples").is_err());
    }

    #[test]
    fn rounds_half_away_from_zero_at_milli() {
        for (text, milli) in [
            ("1.005", 1005),
            ("64.1", 64_100),
            ("0.0005", 1),
            ("0.00049", 0),
            ("-0.0005", -1),
            ("123456.7895", 123_456_790),
            ("1e-300", 0),
        ] {
            assert_eq!(d(text).to_milli(), Some(milli), "{text}");
        }
        assert_eq!(d("1e300").to_milli(), None);
    }

    #[test]
    fn keeps_the_large_part_of_very_unequal_sums() {
        assert_eq!(d("1e300").add(&d("1")), d("1e300"));
        assert_eq!(d("1e-300").add(&d("1e300")), d("1e300"));
        assert_eq!(d("0.1").add(&d("0.2")), d("0.3"));
    }

    proptest! {
        #[test]
        fn text_round_trips(mantissa in -10_i128.pow(29)..10_i128.pow(29), exponent in -50..25_i32) {
            let value = Decimal::new(mantissa, exponent);
            prop_assert_eq!(value.to_string().parse::<Decimal>().unwrap(), value);
        }

        #[test]
        fn agrees_with_integers(a in -1_000_000_000_i64..1_000_000_000, b in -1_000_000_000_i64..1_000_000_000) {
            prop_assert_eq!(Decimal::from(a).add(&Decimal::from(b)), Decimal::from(a + b));
            prop_assert_eq!(Decimal::from(a).mul(&Decimal::from(b)), Decimal::from(a * b));
            prop_assert_eq!(Decimal::from(a).cmp(&Decimal::from(b)), a.cmp(&b));
        }

        #[test]
        fn floats_survive(value in proptest::num::f64::NORMAL) {
            let back = Decimal::from_f64(value).unwrap().to_f64();
            prop_assert!((back - value).abs() <= value.abs() * 1e-15);
        }

        #[test]
        fn never_panics(text in "[-+0-9.eEnNaAiIfF]{0,60}") {
            if let Ok(value) = text.parse::<Decimal>() {
                let _ = (value.to_milli(), value.mul(&value), value.add(&value), value.div(7), value.to_string());
            }
        }
    }
}
