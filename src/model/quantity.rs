//! The number that goes over the wire.

use std::fmt;

use crate::model::Decimal;

/// A Kubernetes quantity in thousandths, printed in canonical decimal form.
///
/// The HPA reads quantities as `int64` milli-units and overflows silently: `10P` reads as 0. So
/// the magnitude is clamped to [`Quantity::MAX_UNITS`] (wire rule of `resource.Quantity`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    milli: i64,
}

impl Quantity {
    /// Largest magnitude in whole units whose milli form fits an `int64`.
    pub const MAX_UNITS: i64 = 9_223_372_036_854_775;

    /// A value rounded half away from zero at milli and clamped.
    #[must_use]
    pub fn from_decimal(value: &Decimal) -> Self {
        let limit = Self::MAX_UNITS * 1000;
        let milli = value
            .to_milli()
            .unwrap_or(if value.is_negative() { -limit } else { limit })
            .clamp(-limit, limit);
        Self { milli }
    }

    /// A number of thousandths, clamped.
    #[must_use]
    pub fn from_milli(milli: i64) -> Self {
        let limit = Self::MAX_UNITS * 1000;
        Self { milli: milli.clamp(-limit, limit) }
    }

    /// The value in thousandths.
    #[must_use]
    pub fn milli(self) -> i64 {
        self.milli
    }
}

impl fmt::Display for Quantity {
    /// Canonical `DecimalSI`: no fraction, the exponent a multiple of three and as large as
    /// possible (`resource.Quantity` in apimachinery).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SUFFIX: [&str; 8] = ["m", "", "k", "M", "G", "T", "P", "E"];
        if self.milli == 0 {
            return f.write_str("0");
        }
        let (mut mantissa, mut step) = (self.milli, 0);
        while mantissa % 1000 == 0 && step + 1 < SUFFIX.len() {
            mantissa /= 1000;
            step += 1;
        }
        write!(f, "{mantissa}{}", SUFFIX[step])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Quantity::from_decimal(&text.parse().unwrap()).to_string()
    }

    #[test]
    fn prints_the_canonical_form() {
        for (value, text) in [
            ("0", "0"),
            ("0.0004", "0"),
            ("0.0005", "1m"),
            ("0.001", "1m"),
            ("0.1", "100m"),
            ("1", "1"),
            ("1.005", "1005m"),
            ("1.5", "1500m"),
            ("10", "10"),
            ("64.1", "64100m"),
            ("99.9999", "100"),
            ("1000", "1k"),
            ("1001", "1001"),
            ("1200", "1200"),
            ("2048.5", "2048500m"),
            ("12500", "12500"),
            ("100000", "100k"),
            ("123456.789", "123456789m"),
            ("1e6", "1M"),
            ("1.5e6", "1500k"),
            ("2.5e9", "2500M"),
            ("1e15", "1P"),
            ("9.2e15", "9200T"),
            ("-1.5", "-1500m"),
            ("-1000", "-1k"),
        ] {
            assert_eq!(shown(value), text, "{value}");
        }
    }

    #[test]
    fn clamps_what_the_hpa_would_misread() {
        for value in ["1e16", "1e19", "1e300"] {
            assert_eq!(shown(value), "9223372036854775");
        }
        assert_eq!(shown("-1e19"), "-9223372036854775");
    }
}
