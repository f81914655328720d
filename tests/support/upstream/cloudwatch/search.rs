//! `SEARCH`: which metrics a term finds. After "CloudWatch search expression syntax" in the
//! service's user guide.

use super::data::Metric;

/// What is searched for.
#[derive(Debug)]
pub(super) struct Search {
    /// A namespace and the exact set of dimension names.
    schema: Option<(String, Vec<String>)>,
    term: Option<Term>,
}

#[derive(Debug)]
enum Term {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Has { property: Option<String>, text: String, exact: bool },
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Mark(char),
}

impl Search {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let tokens = tokens(text)?;
        let mut rest = tokens.as_slice();
        let mut schema = None;
        if let [Token::Mark('{'), tail @ ..] = rest {
            let end =
                tail.iter().position(|t| *t == Token::Mark('}')).ok_or("SEARCH: '}' expected")?;
            let mut names = tail[..end].iter().filter_map(|token| match token {
                Token::Word(name) | Token::Quoted(name) => Some(name.clone()),
                Token::Mark(_) => None,
            });
            let namespace = names.next().ok_or("SEARCH: a schema needs a namespace")?;
            let mut dimensions: Vec<String> = names.collect();
            dimensions.sort();
            schema = Some((namespace, dimensions));
            rest = &tail[end + 1..];
            if let [Token::Mark(','), tail @ ..] = rest {
                rest = tail;
            }
        }
        let term = if rest.is_empty() { None } else { Some(any(&mut rest)?) };
        if !rest.is_empty() {
            return Err(format!("SEARCH: unexpected {:?}", rest[0]));
        }
        if schema.is_none() && term.is_none() {
            return Err("SEARCH: a schema or a term is needed".to_owned());
        }
        Ok(Self { schema, term })
    }

    pub(super) fn finds(&self, metric: &Metric) -> bool {
        let fits = self.schema.as_ref().is_none_or(|(namespace, names)| {
            let mine = metric.dimensions.iter().map(|(name, _)| name);
            *namespace == metric.namespace && mine.eq(names)
        });
        fits && self.term.as_ref().is_none_or(|term| term.holds(metric))
    }
}

impl Term {
    fn holds(&self, metric: &Metric) -> bool {
        match self {
            Self::All(terms) => terms.iter().all(|term| term.holds(metric)),
            Self::Any(terms) => terms.iter().any(|term| term.holds(metric)),
            Self::Not(term) => !term.holds(metric),
            Self::Has { property, text, exact } => {
                let all = || {
                    let own = [metric.name.as_str(), metric.namespace.as_str()];
                    let dimensions = metric.dimensions.iter();
                    own.into_iter().chain(dimensions.flat_map(|(n, v)| [n.as_str(), v.as_str()]))
                };
                let candidates: Vec<&str> = match property.as_deref() {
                    None => all().collect(),
                    Some("MetricName") => vec![&metric.name],
                    Some("Namespace") => vec![&metric.namespace],
                    Some(":aws.AccountId") => vec![&metric.account],
                    Some(name) => metric.dimension(name).into_iter().collect(),
                };
                candidates.iter().any(|c| if *exact { c == text } else { partly(c, text) })
            }
        }
    }
}

/// Whether the pieces of a term follow each other in the pieces of a name.
fn partly(name: &str, term: &str) -> bool {
    let (name, term) = (pieces(name), pieces(term));
    match term.as_slice() {
        [] => false,
        [one] => name.contains(one) || name.concat() == *one,
        several => name.windows(several.len()).any(|w| w == several),
    }
}

/// Pieces by case, digits and other characters, in lower case.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let chars: Vec<char> = text.chars().collect();
    let mut open = false;
    for (i, &c) in chars.iter().enumerate() {
        if !c.is_ascii_alphanumeric() {
            open = false;
            continue;
        }
        let before = i.checked_sub(1).map(|i| chars[i]).filter(|_| open);
        let starts = before.is_none_or(|before| {
            let next_is_lower = chars.get(i + 1).is_some_and(char::is_ascii_lowercase);
            c.is_ascii_digit() != before.is_ascii_digit()
                || c.is_ascii_uppercase() && (before.is_ascii_lowercase() || next_is_lower)
        });
        if starts {
            pieces.push(String::new());
        }
        open = true;
        pieces.last_mut().expect("a piece was begun").push(c.to_ascii_lowercase());
    }
    pieces
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '{' | '}' | '(' | ')' | ',' | '=' => tokens.push(Token::Mark(c)),
            '"' => {
                let mut quoted = String::new();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => quoted.extend(chars.next()),
                        Some(c) => quoted.push(c),
                        None => return Err("SEARCH: a quote is not closed".to_owned()),
                    }
                }
                tokens.push(Token::Quoted(quoted));
            }
            c => {
                let mut word = String::from(c);
                while let Some(c) =
                    chars.next_if(|c| !c.is_whitespace() && !"{}(),=\"".contains(*c))
                {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

fn word(tokens: &[Token], keyword: &str) -> bool {
    matches!(tokens.first(), Some(Token::Word(word)) if word == keyword)
}

fn any(tokens: &mut &[Token]) -> Result<Term, String> {
    let mut terms = vec![all(tokens)?];
    while word(tokens, "OR") {
        *tokens = &tokens[1..];
        terms.push(all(tokens)?);
    }
    Ok(if terms.len() == 1 { terms.remove(0) } else { Term::Any(terms) })
}

fn all(tokens: &mut &[Token]) -> Result<Term, String> {
    let mut terms = vec![one(tokens)?];
    while !tokens.is_empty() && !word(tokens, "OR") && tokens[0] != Token::Mark(')') {
        if word(tokens, "AND") {
            *tokens = &tokens[1..];
        }
        terms.push(one(tokens)?);
    }
    Ok(if terms.len() == 1 { terms.remove(0) } else { Term::All(terms) })
}

fn one(tokens: &mut &[Token]) -> Result<Term, String> {
    let Some((first, rest)) = tokens.split_first() else {
        return Err("SEARCH: unexpected end of the term".to_owned());
    };
    *tokens = rest;
    let (text, exact) = match first {
        Token::Word(word) if word == "NOT" => return Ok(Term::Not(Box::new(one(tokens)?))),
        Token::Mark('(') => {
            let inner = any(tokens)?;
            let Some((Token::Mark(')'), rest)) = tokens.split_first() else {
                return Err("SEARCH: ')' expected".to_owned());
            };
            *tokens = rest;
            return Ok(inner);
        }
        Token::Word(text) => (text, false),
        Token::Quoted(text) => (text, true),
        Token::Mark(mark) => return Err(format!("SEARCH: unexpected '{mark}'")),
    };
    if let [Token::Mark('='), value, rest @ ..] = *tokens {
        *tokens = rest;
        let (value, exact) = match value {
            Token::Word(value) => (value, false),
            Token::Quoted(value) => (value, true),
            Token::Mark(mark) => return Err(format!("SEARCH: unexpected '{mark}'")),
        };
        return Ok(Term::Has { property: Some(text.clone()), text: value.clone(), exact });
    }
    Ok(Term::Has { property: None, text: text.clone(), exact })
}
