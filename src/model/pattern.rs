//! Patterns of allow lists.

use std::fmt;
use std::sync::Arc;

/// A pattern in an allow list: literal text in which `*` stands for any run of characters other
/// than `/` and `:`. So `arn:aws:iam::*:role/metrics-*` cannot be stretched over another field of
/// an ARN or another path element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// A pattern from its text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether the whole of `text` fits.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        // Greedy with one level of backtracking: the standard wildcard walk, linear in practice.
        // `*` never crosses a separator, so a star's match may only grow up to the next one.
        let (p, t) = (self.0.as_bytes(), text.as_bytes());
        let (mut pi, mut ti) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while ti < t.len() {
            if pi < p.len() && p[pi] == b'*' {
                star = Some((pi, ti));
                pi += 1;
            } else if pi < p.len() && p[pi] == t[ti] {
                pi += 1;
                ti += 1;
            } else if let Some((sp, st)) = star
                && t[st] != b'/'
                && t[st] != b':'
            {
                star = Some((sp, st + 1));
                pi = sp + 1;
                ti = st + 1;
            } else {
                return false;
            }
        }
        p[pi..].iter().all(|&c| c == b'*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_never_crosses_a_separator() {
        let roles = Pattern::new("arn:aws:iam::*:role/metrics-*");
        assert!(roles.matches("arn:aws:iam::111122223333:role/metrics-reader"));
        assert!(!roles.matches("arn:aws:iam::111122223333:role/metrics-a/admin"));
        assert!(!roles.matches("arn:aws:iam::1:x:role/metrics-a"));
        assert!(!roles.matches("arn:aws:iam::111122223333:role/admin"));
        assert!(Pattern::new("team-*").matches("team-"));
        assert!(!Pattern::new("team-*").matches("steam-a"));
        assert!(Pattern::new("*").matches("anything"));
        assert!(Pattern::new("a*b*c").matches("aXbXbYc"));
        assert!(!Pattern::new("a").matches("ab"));
        assert!(Pattern::new("").matches(""));
    }
}
