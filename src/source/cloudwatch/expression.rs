//! Metric math, as far as the plan must understand it: where an expression refers to other queries.
//!
//! Groups of different definitions go out in one call, so the ids of each are renamed, in the
//! expressions too. What cannot be renamed without a doubt about its meaning is said so, and the
//! group then goes out alone and unchanged.
//!
//! Source of the rules: Amazon `CloudWatch` User Guide, "Using math expressions with `CloudWatch`
//! metrics". Functions are in upper case and ids start in lower case, so the two cannot be confused.
//! `METRICS()` stands for all metrics of the *request* (not for expressions), `METRICS("text")` for
//! those with the text in their id; in a shared call that would be those of strangers, so it becomes
//! an array of the group's own.

/// What a piece of an expression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name: of a query, a function or a keyword.
    Word,
    /// A string with its quotes, single or double.
    Text,
    /// White space.
    Space,
    /// Anything else: a number, or one character.
    Other,
}

/// A piece of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// As written.
    pub text: &'a str,
}

/// Cuts an expression into pieces that together are the expression. A string that does not end is
/// a piece up to the end.
pub(super) fn tokens(expression: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let (kind, length) = match first {
            'a'..='z' | 'A'..='Z' | '_' => (Kind::Word, prefix(rest, is_word)),
            '\'' | '"' => (Kind::Text, string(rest, first)),
            '0'..='9' | '.' => (Kind::Other, number(rest)),
            c if c.is_whitespace() => (Kind::Space, prefix(rest, char::is_whitespace)),
            c => (Kind::Other, c.len_utf8()),
        };
        let (text, after) = rest.split_at(length);
        found.push(Token { kind, text });
        rest = after;
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn prefix(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// Length of the string at the start of `text`; a backslash takes the next character with it.
fn string(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Length of the number at the start of `text`. The `e` of `1e3` is not an id.
fn number(text: &str) -> usize {
    let digits = prefix(text, |c| c.is_ascii_digit() || c == '.');
    let Some(exponent) = text[digits..].strip_prefix(['e', 'E']) else { return digits };
    let sign = usize::from(exponent.starts_with(['+', '-']));
    match prefix(&exponent[sign..], |c| c.is_ascii_digit()) {
        0 => digits,
        length => digits + 1 + sign + length,
    }
}

/// A query of a group, under both its names.
#[derive(Clone, Debug)]
pub(super) struct Name<'a> {
    /// The author's id.
    pub author: &'a str,
    /// The id in the call.
    pub wire: String,
    /// Whether it is a metric, of which `METRICS()` speaks.
    pub metric: bool,
}

/// The expression with all ids replaced. `None` when it cannot be said in a shared call: it names a
/// query that the group has not, or uses `METRICS()` where an array would not mean the same.
pub(super) fn rewrite(expression: &str, names: &[Name<'_>]) -> Option<String> {
    let tokens = tokens(expression);
    let mut out = String::with_capacity(expression.len() + 16);
    let (mut brackets, mut called) = (Vec::new(), false);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match (token.kind, token.text) {
            (Kind::Word, word) if is_call(&tokens[at..]) => {
                if word == "METRICS" {
                    // An array inside an array is not in the documented grammar.
                    let nested = brackets.iter().rfind(|open| **open != "(") == Some(&"[");
                    let (needle, length) = argument(&tokens[at..]).filter(|_| !nested)?;
                    out.push_str(&array(names, needle)?);
                    at += length;
                } else {
                    called = true;
                    out.push_str(word);
                }
            }
            (Kind::Word, word) if word.starts_with(|c: char| c.is_ascii_lowercase()) => {
                out.push_str(&names.iter().find(|name| name.author == word)?.wire);
            }
            (_, text) => {
                match text {
                    "(" if std::mem::take(&mut called) => brackets.push("f("),
                    "(" | "[" => brackets.push(text),
                    ")" | "]" => drop(brackets.pop()),
                    _ => {}
                }
                out.push_str(text);
            }
        }
    }
    Some(out)
}

/// Whether the pieces after a word make it a function.
fn is_call(after: &[Token<'_>]) -> bool {
    after.iter().find(|token| token.kind != Kind::Space).is_some_and(|token| token.text == "(")
}

/// The argument of `METRICS` and the number of pieces up to its closing parenthesis.
fn argument<'a>(after: &[Token<'a>]) -> Option<(&'a str, usize)> {
    let mut solid = after.iter().enumerate().filter(|(_, token)| token.kind != Kind::Space);
    solid.next().filter(|(_, token)| token.text == "(")?;
    let (at, token) = solid.next()?;
    if token.text == ")" {
        return Some(("", at + 1));
    }
    let quote = token.text.chars().next().filter(|_| token.kind == Kind::Text)?;
    let needle = token.text.strip_prefix(quote)?.strip_suffix(quote)?;
    let (end, _) = solid.next().filter(|(_, token)| token.text == ")")?;
    (!needle.contains('\\')).then_some((needle, end + 1))
}

/// The array that `METRICS` stands for. The service says nowhere what an array of one is, or what
/// naming one metric twice does, so those are left to `METRICS` itself.
fn array(names: &[Name<'_>], needle: &str) -> Option<String> {
    let found: Vec<&str> = names
        .iter()
        .filter(|name| name.metric && name.author.contains(needle))
        .map(|name| name.wire.as_str())
        .collect();
    let distinct = (1..found.len()).all(|i| !found[..i].contains(&found[i]));
    (found.len() >= 2 && distinct).then(|| format!("[{}]", found.join(",")))
}

/// The pieces without white space.
pub(super) fn solid(expression: &str) -> Vec<Token<'_>> {
    let mut all = tokens(expression);
    all.retain(|token| token.kind != Kind::Space);
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Vec<Name<'static>> {
        [("errors_4xx", true), ("errors_5xx", true), ("total", true), ("rate", false), ("e3", true)]
            .into_iter()
            .map(|(author, metric)| Name { author, wire: format!("g7_{author}"), metric })
            .collect()
    }

    #[test]
    fn ids_are_replaced_and_nothing_else() {
        for (text, expected) in [
            ("100*errors_4xx/total", "100*g7_errors_4xx/g7_total"),
            ("FILL(rate, REPEAT) + 1e3 - e3", "FILL(g7_rate, REPEAT) + 1e3 - g7_e3"),
            ("IF(total > 0 AND rate<.5, total, 0)", "IF(g7_total > 0 AND g7_rate<.5, g7_total, 0)"),
            ("SUM ([total,rate])", "SUM ([g7_total,g7_rate])"),
            (
                "LAMBDA('total', \"rate 'total'\", total)",
                "LAMBDA('total', \"rate 'total'\", g7_total)",
            ),
            (r"SEARCH('it\'s total', 'Sum')+total", r"SEARCH('it\'s total', 'Sum')+g7_total"),
            ("", ""),
        ] {
            assert_eq!(rewrite(text, &names()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn metrics_become_an_array_of_the_groups_own() {
        let all = "[g7_errors_4xx,g7_errors_5xx,g7_total,g7_e3]";
        for (text, expected) in [
            ("SUM(METRICS())", Some(format!("SUM({all})"))),
            ("METRICS ( ) /100", Some(format!("{all} /100"))),
            (
                "SUM(METRICS('errors'))/total",
                Some("SUM([g7_errors_4xx,g7_errors_5xx])/g7_total".to_owned()),
            ),
            // Whether `[m]` is an array is not documented.
            ("SUM(METRICS(\"total\"))", None),
            ("SUM(METRICS(\"none\"))", None),
            // `rate` is an expression, `e` is in all ids but that of none.
            ("SUM(METRICS(\"rate\"))", None),
            ("SUM([METRICS(\"4xx\"), METRICS(\"5xx\")])", None),
            ("SUM([(METRICS()*2), total])", None),
            ("[SUM(METRICS()), total]", Some(format!("[SUM({all}), g7_total]"))),
            ("SUM(METRICS(total))", None),
            ("SUM(METRICS(", None),
            ("METRICS(\"e", None),
        ] {
            assert_eq!(rewrite(text, &names()), expected, "{text}");
        }
        let twice = vec![
            Name { author: "a", wire: "m1".into(), metric: true },
            Name { author: "b", wire: "m1".into(), metric: true },
        ];
        assert_eq!(rewrite("SUM(METRICS())", &twice), None);
    }

    #[test]
    fn a_stranger_is_not_renamed() {
        assert_eq!(rewrite("total + g3_other", &names()), None);
    }

    proptest! {
        #[test]
        fn tokens_are_the_whole_expression(text in any::<String>()) {
            let all: String = tokens(&text).iter().map(|token| token.text).collect();
            prop_assert_eq!(all, text);
        }

        #[test]
        fn what_is_rewritten_refers_only_to_the_new_ids(
            text in r#"(METRICS\((|"e"|'x'|"total")\)|total|rate|e3|SUM|other|[0-9]e?[0-9]*|[-+*/(),\[\] '"\\.]){0,20}"#
        ) {
            if let Some(rewritten) = rewrite(&text, &names()) {
                let all = solid(&rewritten);
                for (i, token) in all.iter().enumerate() {
                    let called = all.get(i + 1).is_some_and(|next| next.text == "(");
                    if token.kind == Kind::Word && !called && token.text.starts_with(|c: char| c.is_ascii_lowercase()) {
                        prop_assert!(token.text.starts_with("g7_"), "{} -> {}", text, rewritten);
                    }
                    prop_assert!(!(token.text == "METRICS" && called), "{} -> {}", text, rewritten);
                }
            }
        }
    }
}
