use proptest::prelude::*;

use super::*;

/// What Go finds (go1.26): expression, text, and the byte ranges of the first match and its groups.
#[expect(clippy::type_complexity, reason = "a table")]
const MATCHES: &[(&str, &str, Option<&[Option<(usize, usize)>]>)] = &[
    ("", "a", Some(&[Some((0, 0))])),
    ("b+", "abb", Some(&[Some((1, 3))])),
    ("^(.*)_total$", "foo_total", Some(&[Some((0, 9)), Some((0, 3))])),
    ("(a|ab)(c|bcd)(d*)", "abcd", Some(&[Some((0, 4)), Some((0, 1)), Some((1, 4)), Some((4, 4))])),
    ("(a)?(b)", "b", Some(&[Some((0, 1)), None, Some((0, 1))])),
    // ASCII classes, alone, in classes and negated.
    (r"^\d+$", "1٣", None),
    (r"^\w+$", "é", None),
    (r"^\W$", "é", Some(&[Some((0, 2))])),
    (r"^[\W]$", "é", Some(&[Some((0, 2))])),
    (r"^[^\w]$", "é", Some(&[Some((0, 2))])),
    (r"^\s$", "\u{b}", None),
    (r"^\s$", "\u{a0}", None),
    (r"^[\D\d]$", "é", Some(&[Some((0, 2))])),
    (r"\bé", "é", None),
    (r"é\b", "éa", Some(&[Some((0, 2))])),
    (r"\Bé", "é", Some(&[Some((0, 2))])),
    (r"[[:alpha:]]+", "é1ab", Some(&[Some((3, 5))])),
    (r"[[:^alpha:]]+", "ab1é", Some(&[Some((2, 5))])),
    (r"[[:space:]]", "\u{b}", Some(&[Some((0, 1))])),
    (r"[:alpha:]+", "::lap", Some(&[Some((0, 5))])),
    // What is an operator in Rust's classes is a character in Go's.
    ("^[a&&b]+$", "a&b&", Some(&[Some((0, 4))])),
    ("^[a~~b]+$", "a~b", Some(&[Some((0, 3))])),
    ("^[+--]+$", "+,-", Some(&[Some((0, 3))])),
    ("^[[ab]]$", "[]", Some(&[Some((0, 2))])),
    ("^[[a]b]$", "ab]", Some(&[Some((0, 3))])),
    ("^[]a]+$", "]a", Some(&[Some((0, 2))])),
    ("^[^]a]+$", "bc", Some(&[Some((0, 2))])),
    ("^[a-]+$", "a-", Some(&[Some((0, 2))])),
    (r"^[\]\\-a]+$", "]\\a", Some(&[Some((0, 3))])),
    ("^[ #]+$", "# ", Some(&[Some((0, 2))])),
    // Literals.
    ("a{,2}", "a{,2}", Some(&[Some((0, 5))])),
    ("{}]", "{}]", Some(&[Some((0, 3))])),
    (r"\Qa*b\E+", "xa*bb", Some(&[Some((1, 5))])),
    (r"\Qa.", "a.", Some(&[Some((0, 2))])),
    (r"\-\.\/\:\_\ \#", "-./:_ #", Some(&[Some((0, 7))])),
    (r"^\x41\x{42}\103\0$", "ABC\0", Some(&[Some((0, 4))])),
    (r"^[\101-\103\x44]+$", "ABCD", Some(&[Some((0, 4))])),
    (r"\a\f\n\r\t\v", "\u{7}\u{c}\n\r\t\u{b}", Some(&[Some((0, 6))])),
    (r"\x{d800}", "a", None),
    (r"^[^\x{d800}]$", "a", Some(&[Some((0, 1))])),
    // Anchors and flags.
    ("^b$", "a\nb", None),
    ("(?m)^b$", "a\nb", Some(&[Some((2, 3))])),
    ("a$", "a\n", None),
    (r"a\z", "ba", Some(&[Some((1, 2))])),
    ("a.b", "a\nb", None),
    ("(?s)a.b", "a\nb", Some(&[Some((0, 3))])),
    ("(?i)éK", "Ék", Some(&[Some((0, 3))])),
    ("(?i)^s$", "ſ", Some(&[Some((0, 2))])),
    (r"(?i)^\w$", "ſ", Some(&[Some((0, 2))])),
    (r"(?i)^[\W]$", "ſ", None),
    ("(?i)^[^k]$", "\u{212a}", None),
    ("(?i:A)b", "ab", Some(&[Some((0, 2))])),
    ("(?i:A)b", "aB", None),
    ("(a(?i)b)c", "aBC", None),
    ("(?U)a+", "aa", Some(&[Some((0, 1))])),
    ("(?U)a+?", "aa", Some(&[Some((0, 2))])),
    ("a(?i)*", "aaA", Some(&[Some((0, 2))])),
    ("a*(?i)*", "aaA", Some(&[Some((0, 2))])),
    // Repetitions.
    ("a{2}", "aaa", Some(&[Some((0, 2))])),
    ("a{2,}?", "aaa", Some(&[Some((0, 2))])),
    ("(a){0}b", "b", Some(&[Some((0, 1)), None])),
    ("(a){0}(b)", "ab", Some(&[Some((1, 2)), None, Some((1, 2))])),
    ("(|a)*", "aa", Some(&[Some((0, 0)), Some((0, 0))])),
    ("(|a)+", "aa", Some(&[Some((0, 0)), Some((0, 0))])),
    // Unicode.
    (r"^\pL+$", "aé", Some(&[Some((0, 3))])),
    (r"\p{Greek}+", "aαβ", Some(&[Some((1, 5))])),
    (r"^\p{^greek}\P{^GREEK}$", "aα", Some(&[Some((0, 3))])),
    (r"^[\p{Lu}\d]+$", "A1", Some(&[Some((0, 2))])),
    (r"(?i)^\p{Lu}$", "a", Some(&[Some((0, 1))])),
    (r"^\p{Uppercase_Letter}\p{Any}\p{ascii}$", "ÉÉa", Some(&[Some((0, 5))])),
];

#[test]
fn matches_as_go_does() {
    for (expression, text, expected) in MATCHES {
        let regex = GoRegex::new(expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
        let found = regex.regex.captures(text).map(|captures| {
            (0..=regex.groups())
                .map(|group| captures.get(group).map(|found| (found.start(), found.end())))
                .collect::<Vec<_>>()
        });
        assert_eq!(found.as_deref(), *expected, "{expression} on {text:?}");
        assert_eq!(regex.is_match(text), expected.is_some(), "{expression}");
    }
}

#[test]
fn refuses_what_go_refuses() {
    for (expression, complaint) in [
        ("a(?!b)", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?x)a b", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?'n'a)", "invalid or unsupported Perl syntax: `(?'`"),
        ("(?i", "invalid or unsupported Perl syntax: `(?i`"),
        ("(?<=a)", "invalid named capture: `(?<=a)`"),
        ("(?P<>a)", "invalid named capture: `(?P<>`"),
        ("(?<é>a)", "invalid named capture: `(?<é>`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("a{99999999999}", "invalid repeat count: `{99999999999}`"),
        ("(a{100}){11}", "invalid repeat count: `{11}`"),
        ("(?:a{2}|b){501}?", "invalid repeat count: `{501}?`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a*??", "invalid nested repetition operator: `*??`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("(|+?)", "missing argument to repetition operator: `+?`"),
        ("(?i)*", "missing argument to repetition operator: `*`"),
        (r"\Q\E*", "missing argument to repetition operator: `*`"),
        ("[]", "missing closing ]: `[]`"),
        ("x[^]", "missing closing ]: `[^]`"),
        ("[a-", "missing closing ]: `[a-`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[a--b]", "invalid character class range: `a--`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"[a-\d]", r"invalid escape sequence: `\d`"),
        (r"[\b]", r"invalid escape sequence: `\b`"),
        (r"\p{Alphabetic}", r"invalid character class range: `\p{Alphabetic}`"),
        (r"\p{L", r"invalid character class range: `\p{L`"),
        (r"\p", r"invalid character class range: `\p`"),
        (r"\p{sc=Greek}", r"invalid character class range: `\p{sc=Greek}`"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\u0041", r"invalid escape sequence: `\u`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\é", r"invalid escape sequence: `\é`"),
        (r"\x{}", r"invalid escape sequence: `\x{}`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("(a", "missing closing ): `(a`"),
        ("a)", "unexpected ): `a)`"),
    ] {
        let error = GoRegex::new(expression).expect_err(expression);
        assert!(error.starts_with(complaint), "{expression}: {error}");
    }
}

#[test]
fn size_is_bounded() {
    let deep = format!("{}a{}", "(".repeat(5000), ")".repeat(5000));
    for (expression, complaint) in [
        (deep, "nests too deeply"),
        ("a".repeat(MAX_TEXT + 1), "longer than"),
        (r"(\pL{500}){2}(\pL{500}){2}".to_owned(), "too large"),
    ] {
        let error = GoRegex::new(&expression).unwrap_err();
        assert!(error.contains(complaint), "{error}");
    }
    for expression in [
        format!("{}a{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH)),
        format!("{}a{}", "(?i:(?:".repeat(20), ")+)*".repeat(20)),
        "a{1000}".to_owned(),
        "(a{100}){10}".to_owned(),
        "((a{1000}){1}){0,1}".to_owned(),
        "((a{100}){9}){0}".to_owned(),
        "a".repeat(2000),
    ] {
        if let Err(error) = GoRegex::new(&expression) {
            panic!("{expression}: {error}");
        }
    }
}

/// As deep as `translate` allows.
const MAX_DEPTH: usize = 60;

#[test]
fn expands_as_go_does() {
    let regex = GoRegex::new("^(.*)_total$").unwrap();
    assert_eq!(regex.groups(), 1);
    for (template, expected) in [
        ("${1}_per_second", "http_requests_per_second"),
        ("$1_per_second", ""),
        ("$1x", ""),
        ("$0", "http_requests_total"),
        ("$$1", "$1"),
        ("$", "$"),
        ("a$", "a$"),
        ("${", "${"),
        ("${}", "${}"),
        ("${1", "${1"),
        ("a${1b", "a${1b"),
        ("$01", ""),
        ("$9", ""),
        ("$-1", "$-1"),
        ("${1}$0", "http_requestshttp_requests_total"),
        ("$é", ""),
        ("$1é", ""),
        ("$1☃", "http_requests☃"),
        ("$123456789", ""),
        ("$99999999999999999999", ""),
        ("${a b}", "${a b}"),
        ("", ""),
    ] {
        let expanded = regex.expand(template, "http_requests_total");
        assert_eq!(expanded.as_deref(), Some(expected), "{template}");
    }
    assert_eq!(regex.expand("$0", "http_requests"), None);
}

#[test]
fn names_may_be_equal_and_begin_with_digits() {
    let regex = GoRegex::new("(?P<n>a)?(?P<n>b)").unwrap();
    for (text, expected) in [("b", "b,bx,-b"), ("ab", "a,ax,a-b")] {
        let expanded = regex.expand("$n,${n}x,$1-$2", text);
        assert_eq!(expanded.as_deref(), Some(expected));
    }
    let named = |text| {
        regex.named(text).map(|groups| {
            groups.iter().map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>().join(" ")
        })
    };
    assert_eq!(named("b").as_deref(), Some("n= n=b"));
    assert_eq!(named("ab").as_deref(), Some("n=a n=b"));
    assert_eq!(named("c"), None);
    let digits = GoRegex::new("(?P<_1>a)(?<1x>b)(?P<007>c)(d)").unwrap();
    assert_eq!(digits.groups(), 4);
    assert_eq!(digits.expand("$_1$1x$007${4}", "abcd").as_deref(), Some("abcd"));
    assert_eq!(digits.named("abcd").map(|names| names.len()), Some(3));
}

/// Expressions of which Go and this have to make something.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "é",
        ".",
        "*",
        "+",
        "?",
        "{2}",
        "{1,",
        "{",
        "}",
        "(",
        ")",
        "(?:",
        "(?i)",
        "(?P<n>",
        "(?",
        "[",
        "]",
        "[^",
        "-",
        "&&",
        "~~",
        "--",
        "[:alpha:]",
        r"\d",
        r"\W",
        r"\b",
        r"\Q",
        r"\E",
        r"\x41",
        r"\x{",
        r"\1",
        r"\012",
        r"\pL",
        r"\p{Greek}",
        r"\p{",
        "\\",
        "|",
        "^",
        "$",
        ":",
        "<",
        ">",
        "P",
        "U",
        "s",
        " ",
        "#",
        "_",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_panics(expression in any::<String>(), template in any::<String>(), text in any::<String>()) {
        if let Ok(regex) = GoRegex::new(&expression) {
            let _ = regex.expand(&template, &text);
        }
    }

    /// What is translated is also understood: no complaint of the other engine gets through.
    #[test]
    fn what_is_translated_compiles(expression in pieces(), text in "[aé_ -]{0,6}") {
        match GoRegex::new(&expression) {
            Ok(regex) => {
                prop_assert_eq!(regex.is_match(&text), regex.expand("$n$1${", &text).is_some());
            }
            Err(error) => prop_assert!(!error.contains("translated"), "{}", error),
        }
    }

    #[test]
    fn quoted_text_matches_itself(text in any::<String>().prop_filter("the end of quotes", |t| !t.contains(r"\E"))) {
        let regex = GoRegex::new(&format!(r"^\Q{text}\E$")).unwrap();
        prop_assert!(regex.is_match(&text));
    }

    #[test]
    fn escaped_text_matches_itself(text in "[ -~]{0,20}") {
        let escaped: String = text
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\{c}") })
            .collect();
        let regex = GoRegex::new(&format!("^{escaped}$")).unwrap();
        prop_assert!(regex.is_match(&text));
        let regex = GoRegex::new(&format!(r"^[{escaped}\x00]*$")).unwrap();
        prop_assert!(regex.is_match(&text));
    }

    #[test]
    fn templates_without_dollars_are_themselves(template in "[^$]*") {
        let expanded = GoRegex::new("a").unwrap().expand(&template, "a");
        prop_assert_eq!(expanded, Some(template));
    }
}
