//! Paths to fields of a document, and the "did you mean" of a misspelt one.

use std::fmt;

/// The path of a field: `spec.sqs.queues[1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Field(Vec<Step>);

/// One step of a [`Field`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// The value of a key.
    Key(String),
    /// An item of a list, counted from zero.
    Index(usize),
}

impl Field {
    /// The document itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// A path of plain keys: `"spec.sqs"`.
    #[must_use]
    pub fn of(path: &str) -> Self {
        Self(path.split('.').map(|key| Step::Key(key.to_owned())).collect())
    }

    /// The field `key` below this one.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// The item `index` below this one.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// The steps from the document to the field.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether this field is `other` or lies inside it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                // A label key such as `app.kubernetes.io/name` must not read as a path.
                Step::Key(key) if key.is_empty() || key.contains(is_special) => {
                    write!(f, "[{key:?}]")?;
                }
                Step::Key(key) if i == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

fn is_special(c: char) -> bool {
    matches!(c, '.' | '/' | '[' | ']' | '"') || c.is_whitespace() || c.is_control()
}

/// The candidate that the writer of `word` most likely meant, when one is close enough.
#[must_use]
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Words this long are no typing slip, and the distance is quadratic.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate)
        })
        // One slip in three letters: more often than not it is the word that was meant. Shorter
        // words are too near to everything.
        .filter(|(distance, candidate)| *distance <= candidate.len().max(lower.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_people_write_paths() {
        let field = Field::of("spec.sqs").key("queues").index(1);
        assert_eq!(field.to_string(), "spec.sqs.queues[1]");
        assert_eq!(
            Field::of("spec.labels").key("app.kubernetes.io/name").to_string(),
            "spec.labels[\"app.kubernetes.io/name\"]"
        );
        assert!(field.is_within(&Field::of("spec")));
        assert!(!Field::of("spec").is_within(&field));
    }

    #[test]
    fn guesses_only_what_is_near() {
        let fields = ["refresh", "maxAge", "min", "max"];
        assert_eq!(closest("refesh", fields), Some("refresh"));
        assert_eq!(closest("maxage", fields), Some("maxAge"));
        assert_eq!(closest("max_age", fields), Some("maxAge"));
        assert_eq!(closest("bananas", fields), None);
        assert_eq!(closest("PUT", ["GET", "POST"]), None);
        assert_eq!(closest("x", ["a"]), None);
    }
}
