//! Digits of floats, as Go's `strconv` writes them.

/// A `float64` has no digits behind this many; Rust's own precision ends at 65 535.
const MAX_FLOAT_DIGITS: usize = 1100;

/// `%f`.
pub(super) fn fixed(float: f64, precision: usize) -> String {
    let exact = precision.min(MAX_FLOAT_DIGITS);
    let zeros = "0".repeat(precision - exact);
    format!("{float:.exact$}{zeros}")
}

/// `%e`.
pub(super) fn exponential(float: f64, precision: usize) -> String {
    let exact = precision.min(MAX_FLOAT_DIGITS);
    let zeros = "0".repeat(precision - exact);
    let text = format!("{float:.exact$e}");
    let (digits, exponent) = scientific(&text);
    let (sign, size) = (if exponent < 0 { '-' } else { '+' }, exponent.abs());
    format!("{digits}{zeros}e{sign}{size:02}")
}

/// `%g`: the shortest digits that read back as the same float, or so many digits without zeros
/// at the end; with an exponent when it is below -4 or not below the digits (six for the shortest).
pub(super) fn general(float: f64, precision: Option<usize>) -> String {
    let wanted = precision.map(|precision| precision.clamp(1, MAX_FLOAT_DIGITS));
    let text = match wanted {
        Some(digits) => format!("{float:.*e}", digits - 1),
        None => format!("{float:e}"),
    };
    let (digits, exponent) = scientific(&text);
    let digits = digits.replace('.', "");
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let mut limit = wanted.map_or(6, |wanted| i32::try_from(wanted).unwrap_or(i32::MAX));
    if wanted.is_some() && limit > count && count > exponent {
        limit = count;
    }
    if float != 0.0 && (exponent < -4 || exponent >= limit) {
        return exponential(float, digits.len() - 1);
    }
    fixed(float, usize::try_from(count - 1 - exponent).unwrap_or(0))
}

/// Rust's `1.25e-7` as digits and exponent.
fn scientific(text: &str) -> (&str, i32) {
    match text.split_once('e') {
        Some((digits, exponent)) => (digits, exponent.parse().unwrap_or(0)),
        None => (text, 0),
    }
}
