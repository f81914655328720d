//! The grammar of statistics (`CloudWatch` User Guide, "CloudWatch statistics definitions").
//!
//! ```text
//! statistic = Average | Sum | Minimum | Maximum | SampleCount | IQM
//!           | (p | tm | tc | ts | wm) NUMBER              0 to 100
//!           | (TM | TC | TS | WM) ( BOUNDS )              BOUNDS in percent or in absolute values
//!           | PR ( BOUNDS )                               absolute values alone
//! BOUNDS    = [LOW] : [HIGH]                              at least one
//! ```

use std::fmt;

use crate::definition::field::closest;
use crate::model::Decimal;

/// Statistics that are one word, in the service's spelling.
const WORDS: [&str; 6] = ["Average", "Sum", "Minimum", "Maximum", "SampleCount", "IQM"];

/// What people call some of them, in lower case.
const NICKNAMES: [(&str, &str); 10] = [
    ("avg", "Average"),
    ("mean", "Average"),
    ("min", "Minimum"),
    ("max", "Maximum"),
    ("count", "SampleCount"),
    ("n", "SampleCount"),
    ("samples", "SampleCount"),
    ("sample_count", "SampleCount"),
    ("median", "p50"),
    ("interquartilemean", "IQM"),
];

/// Statistics of one number, in percent.
const SHORTHANDS: [&str; 5] = ["p", "tm", "tc", "ts", "wm"];

/// Statistics of two bounds.
const RANGES: [&str; 5] = ["TM", "TC", "TS", "WM", "PR"];

/// The one that takes absolute bounds alone: the percentage of values between them is its result.
const RANK: &str = "PR";

/// Most digits after the point of a bound (same document).
const MAX_DECIMALS: usize = 10;

/// Most characters of a statistic: no valid one is longer than two bounds of 20 digits.
pub(in crate::definition) const MAX_LENGTH: usize = 64;

/// Why a text is no statistic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InvalidStatistic {
    /// Nothing like one; with the one that was probably meant.
    Unknown(String, Option<String>),
    /// The form of one, with a rule broken.
    Rule(String, String),
}

impl fmt::Display for InvalidStatistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text, Some(near)) => {
                write!(f, "{text:?} is not a statistic; did you mean `{near}`?")
            }
            Self::Unknown(text, None) => write!(
                f,
                "{text:?} is not a statistic; there are {}, percentiles like p99.9, tm, tc, ts and wm like tm90, TM, TC, TS and WM like TM(10%:90%), and PR like PR(:0.3)",
                WORDS.join(", ")
            ),
            Self::Rule(text, rule) => write!(f, "{text:?} is not a statistic: {rule}"),
        }
    }
}

/// Checks a statistic and gives it its canonical spelling: numbers without needless zeros, and the
/// short form where a range has one (`TM(:90%)` is `tm90` by the service's definition).
pub(super) fn parse(text: &str) -> Result<String, InvalidStatistic> {
    let shown: String = text.chars().take(MAX_LENGTH).collect();
    if text.len() > MAX_LENGTH {
        return Err(InvalidStatistic::Unknown(shown, None));
    }
    if WORDS.contains(&text) {
        return Ok(text.to_owned());
    }
    match attempt(text) {
        Some(outcome) => outcome.map_err(|rule| InvalidStatistic::Rule(shown, rule)),
        None => Err(InvalidStatistic::Unknown(shown, suggestion(text))),
    }
}

/// The canonical form of a statistic with numbers, or the rule that it breaks; `None` when it does
/// not even look like one.
fn attempt(text: &str) -> Option<Result<String, String>> {
    if text.contains(char::is_whitespace) {
        return None;
    }
    if let Some((name, bounds)) = text.split_once('(') {
        let bounds = bounds.strip_suffix(')')?;
        return RANGES.contains(&name).then(|| range(name, bounds));
    }
    let digit = text.find(|c: char| !c.is_ascii_lowercase())?;
    let (name, number) = text.split_at(digit);
    if !SHORTHANDS.contains(&name) || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    Some(percent(number).map(|number| format!("{name}{number}")))
}

fn range(name: &str, bounds: &str) -> Result<String, String> {
    let Some((low, high)) = bounds.split_once(':') else {
        let example = if name == RANK { "0.1:0.5" } else { "10%:90%" };
        return Err(format!(
            "{name} takes two bounds with a colon, like {name}({example}) or {name}(:0.5)"
        ));
    };
    let is_percent = |bound: &str| bound.ends_with('%');
    let given: Vec<&str> = [low, high].into_iter().filter(|bound| !bound.is_empty()).collect();
    if given.is_empty() {
        return Err("at least one bound is needed".to_owned());
    }
    let relative = given.iter().all(|bound| is_percent(bound));
    if !relative && given.iter().any(|bound| is_percent(bound)) {
        return Err("both bounds are percentages, or both are absolute values".to_owned());
    }
    if relative && name == RANK {
        return Err("PR takes absolute values and gives a percentage; leave out the %".to_owned());
    }
    let read = |bound: &str| match bound.strip_suffix('%') {
        _ if bound.is_empty() => Ok(String::new()),
        Some(number) => percent(number),
        None => plain(bound),
    };
    let (low, high) = (read(low)?, read(high)?);
    if let (Ok(low), Ok(high)) = (low.parse::<Decimal>(), high.parse::<Decimal>())
        && low >= high
    {
        return Err(format!("the lower bound {low} is not below the upper bound {high}"));
    }
    let unit = |number: &str| if relative && !number.is_empty() { "%" } else { "" };
    if relative && low.is_empty() {
        return Ok(format!("{}{high}", name.to_ascii_lowercase()));
    }
    Ok(format!("{name}({low}{}:{high}{})", unit(&low), unit(&high)))
}

fn percent(text: &str) -> Result<String, String> {
    let number = plain(text)?;
    if number.parse::<Decimal>().is_ok_and(|value| value > Decimal::from(100_u64)) {
        return Err(format!("{number} is more than 100 percent"));
    }
    Ok(number)
}

/// A number without sign or exponent, without needless zeros.
fn plain(text: &str) -> Result<String, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty()
        || !is_number(whole)
        || !is_number(fraction)
        || (text.contains('.') && fraction.is_empty())
    {
        return Err(format!("{text:?} is not a number like 90 or 99.9"));
    }
    if fraction.len() > MAX_DECIMALS {
        return Err(format!("{text} has more than {MAX_DECIMALS} digits after the point"));
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.trim_end_matches('0');
    Ok(if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") })
}

/// What was probably meant.
fn suggestion(text: &str) -> Option<String> {
    let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let lower = bare.to_ascii_lowercase();
    if let Some((_, name)) = NICKNAMES.iter().find(|(nickname, _)| *nickname == lower) {
        return Some((*name).to_owned());
    }
    // The right letters in the wrong case, or a percent sign or parentheses where there are none.
    let short = lower.replace(['(', ')', '%'], "");
    let candidates = [bare.to_ascii_uppercase(), lower, short.clone(), format!("p{short}")];
    let valid = candidates.iter().find_map(|candidate| attempt(candidate)?.ok());
    valid.or_else(|| closest(text, WORDS).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statistics_have_one_spelling_each() {
        for (text, canonical) in [
            ("Average", "Average"),
            ("SampleCount", "SampleCount"),
            ("IQM", "IQM"),
            ("p99", "p99"),
            ("p99.90", "p99.9"),
            ("p0", "p0"),
            ("p0.0", "p0"),
            ("p100", "p100"),
            ("p099", "p99"),
            ("tm90", "tm90"),
            ("wm99.9999999999", "wm99.9999999999"),
            ("TM(10%:90%)", "TM(10%:90%)"),
            ("TM(02.50%:98%)", "TM(2.5%:98%)"),
            ("TM(:90%)", "tm90"),
            ("TS(80%:)", "TS(80%:)"),
            ("TC(0.005:0.030)", "TC(0.005:0.03)"),
            ("WM(150:1000)", "WM(150:1000)"),
            ("PR(:300)", "PR(:300)"),
            ("PR(100:2000)", "PR(100:2000)"),
            ("PR(10:)", "PR(10:)"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(canonical), "{text}");
            assert_eq!(parse(canonical).as_deref(), Ok(canonical));
        }
    }

    #[test]
    fn a_slip_of_the_pen_gets_a_suggestion() {
        for (text, near) in [
            ("avg", "Average"),
            ("average", "Average"),
            ("Averge", "Average"),
            ("AVG", "Average"),
            ("sum", "Sum"),
            ("max", "Maximum"),
            ("samplecount", "SampleCount"),
            ("P99", "p99"),
            ("p99%", "p99"),
            ("p(99)", "p99"),
            ("99", "p99"),
            ("TM90", "tm90"),
            ("tm(10%:90%)", "TM(10%:90%)"),
            ("TM(10% : 90%)", "TM(10%:90%)"),
            ("iqm", "IQM"),
            ("median", "p50"),
        ] {
            assert_eq!(
                parse(text).unwrap_err().to_string(),
                format!("{text:?} is not a statistic; did you mean `{near}`?")
            );
        }
    }

    #[test]
    fn every_rule_is_told() {
        for (text, rule) in [
            ("p100.01", "100.01 is more than 100 percent"),
            ("tm101", "101 is more than 100 percent"),
            ("p1.12345678901", "1.12345678901 has more than 10 digits after the point"),
            ("p99.", "\"99.\" is not a number like 90 or 99.9"),
            ("p.5", "\".5\" is not a number like 90 or 99.9"),
            ("TM(10%:100)", "both bounds are percentages, or both are absolute values"),
            ("TM(:)", "at least one bound is needed"),
            ("TM(90%:10%)", "the lower bound 90 is not below the upper bound 10"),
            ("TC(5:5)", "the lower bound 5 is not below the upper bound 5"),
            ("WM(1:101%)", "both bounds are percentages, or both are absolute values"),
            ("TM(:100.1%)", "100.1 is more than 100 percent"),
            ("TM(-1:2)", "\"-1\" is not a number like 90 or 99.9"),
            ("TM(1e2:2e2)", "\"1e2\" is not a number like 90 or 99.9"),
            ("TM(90%)", "TM takes two bounds with a colon, like TM(10%:90%) or TM(:0.5)"),
            ("PR(300)", "PR takes two bounds with a colon, like PR(0.1:0.5) or PR(:0.5)"),
            ("PR(10%:20%)", "PR takes absolute values and gives a percentage; leave out the %"),
        ] {
            assert_eq!(
                parse(text).unwrap_err().to_string(),
                format!("{text:?} is not a statistic: {rule}")
            );
        }
        assert_eq!(
            parse("future").unwrap_err().to_string(),
            "\"future\" is not a statistic; there are Average, Sum, Minimum, Maximum, SampleCount, IQM, percentiles like p99.9, tm, tc, ts and wm like tm90, TM, TC, TS and WM like TM(10%:90%), and PR like PR(:0.3)"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics_and_the_canonical_form_is_stable(
            text in "(p|tm|tc|ts|wm|TM|TC|TS|WM|PR|Average|IQM)?[(]?[0-9.%:e-]{0,12}[)]?|.{0,20}",
        ) {
            if let Ok(canonical) = parse(&text) {
                prop_assert_eq!(parse(&canonical), Ok(canonical.clone()));
            }
        }
    }
}
