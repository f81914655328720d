//! The words of a `CloudWatch` expression: metric math, `SEARCH` and Metrics Insights.
//!
//! Responsible for: cutting an expression into words, numbers, quoted texts and signs, with their
//! places, so that definitions can be checked and ids rewritten without touching what is inside
//! quotes. Not responsible for: whether the words make sense together (`definition`).
//!
//! Invariant: no text makes it panic; the spans are in order, do not overlap, and leave out white
//! space alone.

use std::ops::Range;

/// Functions of metric math that find data by themselves instead of taking it from other queries
/// (CloudWatch User Guide, "Using math expressions with CloudWatch metrics"). How many metrics they
/// find is known only from the answer, and they need a period of their own. `LAMBDA` is one of them,
/// and no definition may use it.
pub const DATA_FUNCTIONS: [&str; 3] = ["SEARCH", "DB_PERF_INSIGHTS", "INSIGHT_RULE_METRIC"];

/// One word of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// Letters, digits and `_`, not beginning with a digit: an id, a function, a keyword.
    Word(&'a str),
    /// A number.
    Number(&'a str),
    /// What is between two quotes, as written.
    Text(&'a str),
    /// One sign: an operator, a bracket, a comma, or whatever else there is.
    Sign(&'a str),
}

/// A word and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<'a> {
    /// The word.
    pub token: Token<'a>,
    /// Its bytes in the expression, quotes included.
    pub span: Range<usize>,
}

/// A quote that is never closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the quote {quote} at character {at} is never closed")]
pub struct UnclosedQuote {
    /// The quote.
    pub quote: char,
    /// Its place, in characters from 1.
    pub at: usize,
}

/// Signs of two characters; every other sign has one.
const LONG_SIGNS: [&str; 6] = ["==", "!=", "<=", ">=", "&&", "||"];

/// Cuts an expression into its words.
///
/// # Errors
/// When a quote is never closed.
pub fn tokens(text: &str) -> Result<Vec<Spanned<'_>>, UnclosedQuote> {
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(first) = text[start..].chars().next() {
        let rest = &text[start..];
        let run = |fits: fn(char) -> bool| rest.find(|c| !fits(c)).unwrap_or(rest.len());
        let (token, length) = match first {
            c if c.is_whitespace() => {
                start += c.len_utf8();
                continue;
            }
            '"' | '\'' => {
                let Some(length) = quoted(rest, first) else {
                    let at = text[..start].chars().count() + 1;
                    return Err(UnclosedQuote { quote: first, at });
                };
                (Token::Text(&rest[1..length - 1]), length)
            }
            c if is_word(c) && !c.is_ascii_digit() => {
                let length = run(is_word);
                (Token::Word(&rest[..length]), length)
            }
            c if c.is_ascii_digit() || c == '.' && follows_digit(&rest[1..]) => {
                let length = number(rest);
                (Token::Number(&rest[..length]), length)
            }
            c => {
                let long = LONG_SIGNS.iter().any(|sign| rest.starts_with(sign));
                let length = if long { 2 } else { c.len_utf8() };
                (Token::Sign(&rest[..length]), length)
            }
        };
        found.push(Spanned { token, span: start..start + length });
        start += length;
    }
    Ok(found)
}

/// How often an expression calls one of these functions. Nothing is called inside quotes.
pub(crate) fn calls(text: &str, functions: &[&str]) -> usize {
    let found = tokens(text).unwrap_or_default();
    let is_call = |pair: &&[Spanned<'_>]| {
        matches!(pair[0].token, Token::Word(word) if functions.contains(&word))
            && pair[1].token == Token::Sign("(")
    };
    found.windows(2).filter(is_call).count()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn follows_digit(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_ascii_digit())
}

/// The length of the text in quotes at the start, quotes included. A backslash takes the
/// character after it along.
fn quoted(rest: &str, quote: char) -> Option<usize> {
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => drop(characters.next()),
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The length of the number at the start: digits, a fraction, an exponent.
fn number(rest: &str) -> usize {
    let digits = |from: usize| {
        let tail = &rest[from..];
        from + tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len())
    };
    let mut end = digits(0);
    if rest[end..].starts_with('.') {
        end = digits(end + 1);
    }
    if rest[end..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<Token<'_>> {
        tokens(text).unwrap().into_iter().map(|spanned| spanned.token).collect()
    }

    #[test]
    fn an_expression_is_cut_into_words() {
        use Token::{Number, Sign, Text, Word};
        assert_eq!(
            words("100*errors/ total_2>=1.5e-3"),
            [
                Number("100"),
                Sign("*"),
                Word("errors"),
                Sign("/"),
                Word("total_2"),
                Sign(">="),
                Number("1.5e-3")
            ]
        );
        assert_eq!(
            words(r#"SEARCH('{AWS/EC2} MetricName="m1"', "p\"9", .5)"#),
            [
                Word("SEARCH"),
                Sign("("),
                Text(r#"{AWS/EC2} MetricName="m1""#),
                Sign(","),
                Text(r#"p\"9"#),
                Sign(","),
                Number(".5"),
                Sign(")")
            ]
        );
        assert_eq!(words("2em&&é"), [Number("2"), Word("em"), Sign("&&"), Sign("é")]);
    }

    #[test]
    fn an_open_quote_is_told_with_its_place() {
        assert_eq!(
            tokens("é + METRICS(\"x)").unwrap_err().to_string(),
            "the quote \" at character 13 is never closed"
        );
        assert_eq!(tokens("'a\\'").unwrap_err(), UnclosedQuote { quote: '\'', at: 1 });
    }

    #[test]
    fn only_calls_outside_of_quotes_count() {
        for (text, count) in [
            ("SEARCH('x','Sum')", 1),
            ("SUM(SEARCH ('x','Sum')) / SUM(SEARCH('y','Sum'))", 2),
            ("METRICS('SEARCH(')", 0),
            ("SEARCH", 0),
            ("RESEARCH('x')", 0),
            ("'SEARCH(", 0),
        ] {
            assert_eq!(calls(text, &["SEARCH"]), count, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_spans_cover_all_but_white_space(text in "[a-zA-Z0-9_.\"'\\\\()\\[\\], +*=<>&|é]{0,60}|.{0,30}") {
            let Ok(found) = tokens(&text) else { return Ok(()) };
            let mut end = 0;
            for spanned in &found {
                prop_assert!(spanned.span.start >= end && spanned.span.end > spanned.span.start);
                prop_assert!(text[end..spanned.span.start].chars().all(char::is_whitespace));
                end = spanned.span.end;
            }
            prop_assert!(text[end..].chars().all(char::is_whitespace));
        }
    }
}
