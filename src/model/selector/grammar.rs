//! The grammar of label selectors, and the rules for keys and values.
//!
//! Follows `labels.Parse` of apimachinery, complaints included, so that a person who knows
//! `kubectl -l` knows what is wrong. One difference: a NUL byte is an ordinary (and therefore
//! invalid) character here, where Go takes it for the end of the text.

use crate::model::selector::{InvalidSelector, Operator, Requirement};

/// Longest selector text, in bytes. A request target that HTTP can carry is not longer.
pub const MAX_SELECTOR_BYTES: usize = 64 * 1024;

/// Longest label value and longest name part of a key, in bytes (Kubernetes).
const MAX_LABEL_BYTES: usize = 63;
/// Longest prefix of a key, in bytes: a DNS subdomain (RFC 1123).
const MAX_PREFIX_BYTES: usize = 253;

const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
     and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex \
     used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric \
     characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
     'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const PREFIX_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
     characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
     'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// The requirements of a selector text, in the order in which they are written.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, InvalidSelector> {
    if text.len() > MAX_SELECTOR_BYTES {
        return Err(InvalidSelector(format!(
            "a selector has at most {MAX_SELECTOR_BYTES} bytes, this one has {}",
            text.len()
        )));
    }
    let mut parser = Parser { rest: text, peeked: None };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            Token::End => return Ok(requirements),
            Token::Word(_) | Token::Not => {}
            other => {
                return complain(other, ", expected: !, identifier, or 'end of string'");
            }
        }
        let requirement = parser.requirement().map_err(|InvalidSelector(text)| {
            InvalidSelector(format!("unable to parse requirement: {text}"))
        })?;
        requirements.push(requirement);
        match parser.next() {
            Token::End => return Ok(requirements),
            Token::Comma => match parser.peek() {
                Token::Word(_) | Token::Not => {}
                other => return complain(other, ", expected: identifier after ','"),
            },
            other => return complain(other, ", expected: ',' or 'end of string'"),
        }
    }
}

fn complain<T>(found: Token<'_>, expected: &str) -> Result<T, InvalidSelector> {
    Err(InvalidSelector(format!("found '{}'{expected}", found.text())))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    End,
    Comma,
    Open,
    Close,
    Not,
    Equal,
    DoubleEqual,
    NotEqual,
    Greater,
    Less,
    /// A key, a value, or the operators `in` and `notin`: their place decides.
    Word(&'a str),
}

impl Token<'_> {
    fn text(&self) -> &str {
        match self {
            Self::End => "",
            Self::Comma => ",",
            Self::Open => "(",
            Self::Close => ")",
            Self::Not => "!",
            Self::Equal => "=",
            Self::DoubleEqual => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::Word(word) => word,
        }
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

struct Parser<'a> {
    rest: &'a str,
    peeked: Option<Token<'a>>,
}

impl<'a> Parser<'a> {
    fn peek(&mut self) -> Token<'a> {
        if let Some(token) = self.peeked {
            return token;
        }
        let token = self.scan();
        self.peeked = Some(token);
        token
    }

    fn next(&mut self) -> Token<'a> {
        match self.peeked.take() {
            Some(token) => token,
            None => self.scan(),
        }
    }

    fn scan(&mut self) -> Token<'a> {
        let text = self.rest.trim_start_matches(is_space);
        let two = |second: u8| text.as_bytes().get(1) == Some(&second);
        let (token, length) = match text.as_bytes().first() {
            None => (Token::End, 0),
            Some(b',') => (Token::Comma, 1),
            Some(b'(') => (Token::Open, 1),
            Some(b')') => (Token::Close, 1),
            Some(b'!') if two(b'=') => (Token::NotEqual, 2),
            Some(b'!') => (Token::Not, 1),
            Some(b'=') if two(b'=') => (Token::DoubleEqual, 2),
            Some(b'=') => (Token::Equal, 1),
            Some(b'>') => (Token::Greater, 1),
            Some(b'<') => (Token::Less, 1),
            Some(_) => {
                let special =
                    |c| is_space(c) || matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
                let length = text.find(special).unwrap_or(text.len());
                (Token::Word(&text[..length]), length)
            }
        };
        self.rest = &text[length..];
        token
    }

    fn requirement(&mut self) -> Result<Requirement, InvalidSelector> {
        let negated = self.peek() == Token::Not;
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(word) => word,
            other => return complain(other, ", expected: identifier"),
        };
        check_key(key)?;
        let build = |operator, values| Requirement { key: key.to_owned(), operator, values };
        if negated {
            return Ok(build(Operator::DoesNotExist, Vec::new()));
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(build(Operator::Exists, Vec::new()));
        }
        let (operator, values) = match self.next() {
            Token::Equal | Token::DoubleEqual => (Operator::Equals, vec![self.exact_value()?]),
            Token::NotEqual => (Operator::NotEquals, vec![self.exact_value()?]),
            Token::Greater => (Operator::GreaterThan, vec![self.exact_value()?]),
            Token::Less => (Operator::LessThan, vec![self.exact_value()?]),
            Token::Word("in") => (Operator::In, self.value_list()?),
            Token::Word("notin") => (Operator::NotIn, self.value_list()?),
            other => return complain(other, ", expected: in, notin, =, ==, !=, >, <"),
        };
        if matches!(operator, Operator::GreaterThan | Operator::LessThan)
            && values[0].parse::<i64>().is_err()
        {
            return Err(InvalidSelector(format!(
                "values[0]: Invalid value: {:?}: for 'Gt', 'Lt' operators, the value must be an \
                 integer",
                values[0]
            )));
        }
        for (index, value) in values.iter().enumerate() {
            check_value(key, index, value)?;
        }
        Ok(build(operator, values.into_iter().map(str::to_owned).collect()))
    }

    /// The value after `=`, `!=`, `>` or `<`; nothing there is the empty value.
    fn exact_value(&mut self) -> Result<&'a str, InvalidSelector> {
        match self.peek() {
            Token::End | Token::Comma => Ok(""),
            Token::Word(word) => {
                self.next();
                Ok(word)
            }
            other => complain(other, ", expected: identifier"),
        }
    }

    /// `(a,b,,c)`, sorted and unique. A missing word between commas is the empty value.
    fn value_list(&mut self) -> Result<Vec<&'a str>, InvalidSelector> {
        match self.next() {
            Token::Open => {}
            other => return complain(other, " expected: '('"),
        }
        let mut values = Vec::new();
        loop {
            let value = match self.peek() {
                Token::Word(word) => {
                    self.next();
                    word
                }
                Token::Comma | Token::Close => "",
                other => return complain(other, ", expected: ',', ')' or identifier"),
            };
            values.push(value);
            match self.next() {
                Token::Comma => {}
                Token::Close => break,
                other => return complain(other, ", expected: ',' or ')'"),
            }
        }
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }
}

/// `[A-Za-z0-9]`, then also `-`, `_` and `.`, then `[A-Za-z0-9]`; not empty.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_subdomain(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.split('.').all(|label| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric)
            && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
    })
}

fn check_key(key: &str) -> Result<(), InvalidSelector> {
    let mut complaints: Vec<String> = Vec::new();
    let mut parts = key.split('/');
    let (first, second, more) = (parts.next().unwrap_or(""), parts.next(), parts.next());
    let (prefix, name) = match second {
        Some(name) => (Some(first), name),
        None => (None, first),
    };
    if more.is_some() {
        complaints.push(format!(
            "a qualified name {NAME_RULE} with an optional DNS subdomain prefix and '/' (e.g. \
             'example.com/MyName')"
        ));
    } else {
        if let Some(prefix) = prefix {
            if prefix.is_empty() {
                complaints.push("prefix part must be non-empty".to_owned());
            } else if prefix.len() > MAX_PREFIX_BYTES {
                complaints.push(format!(
                    "prefix part must be no more than {MAX_PREFIX_BYTES} characters"
                ));
            } else if !is_subdomain(prefix) {
                complaints.push(format!("prefix part {PREFIX_RULE}"));
            }
        }
        if name.is_empty() {
            complaints.push("name part must be non-empty".to_owned());
        } else if name.len() > MAX_LABEL_BYTES {
            complaints.push(format!("name part must be no more than {MAX_LABEL_BYTES} characters"));
        }
        if !is_name(name) {
            complaints.push(format!("name part {NAME_RULE}"));
        }
    }
    if complaints.is_empty() {
        return Ok(());
    }
    Err(InvalidSelector(format!("key: Invalid value: {key:?}: {}", complaints.join("; "))))
}

fn check_value(key: &str, index: usize, value: &str) -> Result<(), InvalidSelector> {
    let complaint = if value.len() > MAX_LABEL_BYTES {
        format!("must be no more than {MAX_LABEL_BYTES} characters")
    } else if value.is_empty() || is_name(value) {
        return Ok(());
    } else {
        VALUE_RULE.to_owned()
    };
    Err(InvalidSelector(format!("values[{index}][{key}]: Invalid value: {value:?}: {complaint}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::MAX_SELECTOR_BYTES;
    use crate::model::{Labels, Selector};

    /// What a text reads as, or the complaint about it.
    fn read(text: &str) -> String {
        match Selector::parse(text) {
            Ok(selector) => format!("<{selector}>"),
            Err(complaint) => complaint.to_string(),
        }
    }

    #[test]
    fn reads_every_form() {
        for (text, shown) in [
            ("", "<>"),
            (" \t\r\n", "<>"),
            ("a=b", "<a=b>"),
            ("a==b", "<a=b>"),
            ("a!=b", "<a!=b>"),
            ("a=", "<a=>"),
            ("a==,b!=", "<a=,b!=>"),
            ("a in (x)", "<a in (x)>"),
            ("a in (y, x,y)", "<a in (x,y)>"),
            ("a in (,x)", "<a in (,x)>"),
            ("a in (x,,)", "<a in (,x)>"),
            ("a in ()", "<a in ()>"),
            ("a notin (x,y)", "<a notin (x,y)>"),
            ("a notin ()", "<a notin ()>"),
            ("a", "<a>"),
            ("!a", "<!a>"),
            (" ! a , b ", "<!a,b>"),
            ("a>5,b<7", "<a>5,b<7>"),
            ("z=1,a=2,m", "<a=2,m,z=1>"),
            ("in in (in,notin)", "<in in (in,notin)>"),
            ("in,notin", "<in,notin>"),
            ("example.com/a_b.c=D-1", "<example.com/a_b.c=D-1>"),
            ("a\n=\nb", "<a=b>"),
        ] {
            assert_eq!(read(text), shown, "{text:?}");
        }
    }

    #[test]
    fn complains_as_go_does() {
        for (text, complaint) in [
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("a=b,", "found '', expected: identifier after ','"),
            ("a=b,,c", "found ',', expected: identifier after ','"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, >, <"),
            ("a==!b", "unable to parse requirement: found '!', expected: identifier"),
            ("a===b", "unable to parse requirement: found '=', expected: identifier"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("!!a", "unable to parse requirement: found '!', expected: identifier"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            ("a in", "unable to parse requirement: found '' expected: '('"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
            (
                "a in (=)",
                "unable to parse requirement: found '=', expected: ',', ')' or identifier",
            ),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ] {
            assert_eq!(read(text), complaint, "{text:?}");
        }
    }

    #[test]
    fn checks_keys_and_values() {
        let long = "a".repeat(64);
        for (text, part) in [
            ("-a=b".to_owned(), "key: Invalid value: \"-a\": name part must consist of"),
            ("/a".to_owned(), "prefix part must be non-empty"),
            ("a/".to_owned(), "name part must be non-empty; name part must consist of"),
            ("A.b/c".to_owned(), "prefix part a lowercase RFC 1123 subdomain"),
            ("a..b/c".to_owned(), "prefix part a lowercase RFC 1123 subdomain"),
            ("a/b/c".to_owned(), "a qualified name must consist of"),
            (format!("{long}=b"), "name part must be no more than 63 characters"),
            (format!("{}/b", "a".repeat(254)), "prefix part must be no more than 253 characters"),
            (format!("a={long}"), "must be no more than 63 characters"),
            ("a=_b".to_owned(), "values[0][a]: Invalid value: \"_b\": a valid label must be"),
            ("a in (b,c:d)".to_owned(), "values[1][a]: Invalid value: \"c:d\""),
            ("a=\0".to_owned(), "a valid label must be"),
            ("größe=1".to_owned(), "name part must consist of"),
        ] {
            let complaint = read(&text);
            assert!(complaint.contains(part), "{text:?}: {complaint}");
            assert!(complaint.starts_with("unable to parse requirement: "), "{complaint}");
        }
        assert_eq!(
            read(&"a".repeat(MAX_SELECTOR_BYTES + 1)),
            "a selector has at most 65536 bytes, this one has 65537"
        );
    }

    #[test]
    fn matches_as_kubernetes_does() {
        let labels = Labels::new([("queue", "jobs"), ("size", "7")]);
        for (text, fits) in [
            ("", true),
            ("queue=jobs", true),
            ("queue!=jobs", false),
            ("other!=jobs", true),
            ("queue in (mail,jobs)", true),
            ("queue notin (mail)", true),
            ("other notin (mail)", true),
            ("other in (mail)", false),
            ("queue", true),
            ("!queue", false),
            ("!other", true),
            ("size>6", true),
            ("size<7", false),
            ("queue>1", false),
            ("queue=jobs,size=8", false),
        ] {
            assert_eq!(Selector::parse(text).map(|s| s.matches(&labels)), Ok(fits), "{text}");
        }
    }

    fn requirement() -> impl Strategy<Value = String> {
        let key = "([a-z0-9]{1,3}(\\.[a-z]{1,2})?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,3}[A-Za-z0-9])?";
        let value = "([A-Za-z0-9]([-A-Za-z0-9_.]{0,3}[A-Za-z0-9])?)?";
        let values = proptest::collection::vec(value, 1..4).prop_map(|v| v.join(","));
        prop_oneof![
            key.prop_map(|k| k.clone()),
            key.prop_map(|k| format!("!{k}")),
            (key, value).prop_map(|(k, v)| format!("{k}={v}")),
            (key, value).prop_map(|(k, v)| format!("{k} != {v}")),
            (key, "[0-9]{1,6}").prop_map(|(k, v)| format!("{k}>{v}")),
            (key, "[0-9]{1,6}").prop_map(|(k, v)| format!("{k}<{v}")),
            (key, values.clone()).prop_map(|(k, v)| format!("{k} in ({v})")),
            (key, values).prop_map(|(k, v)| format!("{k} notin ( {v} )")),
        ]
    }

    proptest! {
        #[test]
        fn the_string_form_reads_back(parts in proptest::collection::vec(requirement(), 0..5)) {
            let selector = Selector::parse(&parts.join(" , ")).unwrap();
            prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
        }

        #[test]
        fn no_text_panics(text in "[-ab=!<>(), in\\PC\\x00\n]{0,40}") {
            if let Ok(selector) = Selector::parse(&text) {
                prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
            }
        }
    }
}
