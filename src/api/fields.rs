//! Field selectors: read by the grammar of apimachinery's `fields.ParseSelector`.
//!
//! Nothing here selects by fields. A read of one object may say its name once more, and nothing
//! else; external metrics take any field selector and ignore it.

/// A field selector that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Reads the string form: `metadata.name=x,a!=b`, with `\\`, `\,` and `\=` in values.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut escaped = false;
        let terms = text.split(|c| {
            let splits = c == ',' && !escaped;
            escaped = c == '\\' && !escaped;
            splits
        });
        let mut all = Vec::new();
        for term in terms.filter(|t| !t.is_empty()) {
            let mut escaped = false;
            let operator = term.char_indices().find(|&(i, c)| {
                let found = !escaped && (c == '=' || term[i..].starts_with("!="));
                escaped = c == '\\' && !escaped;
                found
            });
            let Some((at, _)) = operator else {
                return Err(format!("invalid selector: '{text}'; can't understand '{term}'"));
            };
            let (field, rest) = term.split_at(at);
            let value = ["!=", "==", "="].iter().find_map(|op| rest.strip_prefix(op)).unwrap_or("");
            all.push(Term {
                field: field.to_owned(),
                equal: !rest.starts_with("!="),
                value: unescape(value)?,
            });
        }
        Ok(Self { terms: all })
    }

    /// Whether a read of the object (or, with `*`, the objects) of this name may carry it.
    pub(super) fn check_name(&self, name: &str) -> Result<(), String> {
        let known = ["metadata.name", "metadata.namespace"];
        if let Some(term) = self.terms.iter().find(|t| !known.contains(&&*t.field)) {
            return Err(format!(
                "{:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                term.field
            ));
        }
        let named = self.terms.iter().find(|t| t.equal && t.field == "metadata.name");
        if self.terms.is_empty() || named.is_some_and(|t| t.value == name) {
            return Ok(());
        }
        Err("fieldSelector metadata.name doesn't match requested name".to_owned())
    }
}

fn unescape(text: &str) -> Result<String, String> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some(known @ ('\\' | ',' | '='))) => value.push(known),
            ('\\', other) => {
                let what = other.map(String::from).unwrap_or_default();
                return Err(format!("invalid field selector: invalid escape sequence: \\{what}"));
            }
            ('=', _) => {
                return Err(format!("invalid field selector: unescaped character in value: {c}"));
            }
            _ => value.push(c),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_may_be_said_once_more_and_nothing_else() {
        let mismatch = Err("fieldSelector metadata.name doesn't match requested name".to_owned());
        let unknown = Err("\"spec.x\" is not a known field selector: only \"metadata.name\", \
                           \"metadata.namespace\""
            .to_owned());
        for (text, name, expected) in [
            ("", "web-0", Ok(())),
            (",", "web-0", Ok(())),
            ("metadata.name=web-0", "web-0", Ok(())),
            ("metadata.name==web-0", "web-0", Ok(())),
            ("metadata.name=*", "*", Ok(())),
            ("metadata.name=a\\,b\\=\\\\", "a,b=\\", Ok(())),
            ("metadata.namespace=ns,metadata.name=web-0", "web-0", Ok(())),
            ("metadata.name=web-0", "*", mismatch.clone()),
            ("metadata.name=web-1", "web-0", mismatch.clone()),
            ("metadata.name!=web-1", "web-0", mismatch.clone()),
            ("metadata.namespace=ns", "web-0", mismatch),
            ("metadata.name=web-0,spec.x=1", "web-0", unknown),
        ] {
            let selector = FieldSelector::parse(text).unwrap();
            assert_eq!(selector.check_name(name), expected, "{text} {name}");
        }
    }
}
