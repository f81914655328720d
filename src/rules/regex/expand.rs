//! `Regexp.Expand`.

use ::regex::Captures;

use crate::rules::letters::is_name_char;

/// Go's `num >= 1e8`: nine digits and more are a name.
const MAX_NUMBER: usize = 100_000_000;

/// Expands a template for a match. `names` are those of the groups, from group 1.
pub(super) fn expand(
    mut template: &str,
    names: &[Option<String>],
    captures: &Captures<'_>,
) -> String {
    let mut out = String::new();
    while let Some((before, after)) = template.split_once('$') {
        out.push_str(before);
        template = after;
        if let Some(rest) = template.strip_prefix('$') {
            out.push('$');
            template = rest;
            continue;
        }
        let Some((name, rest)) = reference(template) else {
            // Malformed: the dollar is text.
            out.push('$');
            continue;
        };
        template = rest;
        let text = match number(name) {
            Some(group) => captures.get(group),
            // Of groups with one name the first that takes part.
            None => (1..)
                .zip(names)
                .filter(|(_, named)| named.as_deref() == Some(name))
                .find_map(|(group, _)| captures.get(group)),
        };
        out.push_str(text.map_or("", |found| found.as_str()));
    }
    out.push_str(template);
    out
}

/// The longest name, with or without braces, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (body, braced) = match text.strip_prefix('{') {
        Some(body) => (body, true),
        None => (text, false),
    };
    let end = body.find(|c| !is_name_char(c)).unwrap_or(body.len());
    let (name, rest) = body.split_at(end);
    if name.is_empty() {
        return None;
    }
    if braced {
        return Some((name, rest.strip_prefix('}')?));
    }
    Some((name, rest))
}

/// The number of a group. A zero in front makes it a name.
fn number(name: &str) -> Option<usize> {
    if name.len() > 1 && name.starts_with('0') {
        return None;
    }
    name.bytes().try_fold(0_usize, |number, byte| {
        (byte.is_ascii_digit() && number < MAX_NUMBER)
            .then(|| number * 10 + usize::from(byte - b'0'))
    })
}
