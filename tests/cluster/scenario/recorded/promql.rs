//! Whether two queries ask the same.

/// A query in pieces: text as it is, and lists of label matchers, whose order says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Promql(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// Sorted. An empty one is a comma too many, which Prometheus refuses.
    Matchers(Vec<String>),
}

impl Promql {
    pub(super) fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = outside(rest, '{') {
            let Some(length) = outside(&rest[open + 1..], '}') else { break };
            pieces.push(Piece::Text(rest[..open].to_owned()));
            let mut inner = &rest[open + 1..=open + length];
            let mut matchers = Vec::new();
            while let Some(comma) = outside(inner, ',') {
                matchers.push(inner[..comma].trim().to_owned());
                inner = &inner[comma + 1..];
            }
            matchers.push(inner.trim().to_owned());
            matchers.sort();
            pieces.push(Piece::Matchers(matchers));
            rest = &rest[open + length + 2..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Self(pieces)
    }

    /// Whether this asks about all objects what `other` asks about some: the same, but that in each
    /// list of matchers that differs one has become `label=~".+"`.
    pub(super) fn is_wider_than(&self, other: &Self) -> bool {
        self != other
            && self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|pieces| match pieces {
                (Piece::Matchers(ours), Piece::Matchers(theirs)) => {
                    ours == theirs || all_in_place_of_some(ours, theirs)
                }
                (ours, theirs) => ours == theirs,
            })
    }
}

/// The first `wanted` that is in no string.
fn outside(text: &str, wanted: char) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(open) if letter == open => quote = None,
            Some(open) => escaped = letter == '\\' && open != '`',
            None if letter == wanted => return Some(at),
            None => quote = ['"', '\'', '`'].contains(&letter).then_some(letter),
        }
    }
    None
}

fn all_in_place_of_some(ours: &[String], theirs: &[String]) -> bool {
    let (mut ours, mut theirs) = (ours.to_vec(), theirs.to_vec());
    ours.retain(|matcher| match theirs.iter().position(|known| known == matcher) {
        Some(at) => {
            theirs.remove(at);
            false
        }
        None => true,
    });
    let ([all], [some]) = (ours.as_slice(), theirs.as_slice()) else { return false };
    let Some(label) = all.strip_suffix("=~\".+\"") else { return false };
    some.strip_prefix(label).is_some_and(|rest| rest.starts_with("=\"") || rest.starts_with("=~\""))
}

#[test]
fn order_of_matchers_and_all_objects_are_told_apart() {
    let same = |a: &str, b: &str| Promql::new(a) == Promql::new(b);
    assert!(same(r#"sum(a{b="1",c="}"}) by (d)"#, r#"sum(a{c="}",b="1"}) by (d)"#));
    assert!(!same(r#"sum(a{b="1"}) by (d)"#, r#"sum(a{b="2"}) by (d)"#));
    assert!(!same(r#"a{b="1"}"#, r#"a{,b="1"}"#));
    assert!(!same(r#"a{b="1"} / a{b="1"}"#, r#"a{b="1"}"#));
    let wider = |a: &str, b: &str| Promql::new(a).is_wider_than(&Promql::new(b));
    assert!(wider(r#"a{n="x",p=~".+"}"#, r#"a{n="x",p=~"v|w"}"#));
    assert!(wider(r#"a{p=~".+",n="x"} / b"#, r#"a{n="x",p="v"} / b"#));
    assert!(!wider(r#"a{n="x",p=~".+"}"#, r#"a{n="y",p=~"v|w"}"#));
    assert!(!wider(r#"a{n="x",p=~".+"}"#, r#"a{n="x",q="v"}"#));
    assert!(!wider(r#"a{p="v"}"#, r#"a{p="v"}"#));
}
