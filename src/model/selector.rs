//! Label selectors, in Kubernetes' string form.

mod grammar;

use std::fmt;
use std::sync::{Arc, LazyLock};

use crate::model::Labels;

pub use grammar::MAX_SELECTOR_BYTES;

/// How one requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// The label is there with the value: `=` and `==`. Means what [`Operator::In`] with one value
    /// means; told apart because prometheus-adapter makes another query of it, and another echo.
    Equals,
    /// The label has another value, or is absent: `!=`.
    NotEquals,
    /// The label is there with one of the values.
    In,
    /// The label has none of the values, or is absent.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is an integer above the value.
    GreaterThan,
    /// The label is an integer below the value.
    LessThan,
}

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How it compares.
    pub operator: Operator,
    /// What it is compared with, sorted and unique.
    pub values: Vec<String>,
}

/// A label selector: all requirements must hold. Without requirements it matches everything.
/// Cheap to clone: authorization and lookup share one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    requirements: Arc<[Requirement]>,
}

/// Why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSelector(pub String);

impl Requirement {
    /// Whether a label set fulfils the requirement.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.get(&self.key))
    }

    /// Whether the label's value (or its absence) fulfils the requirement.
    #[must_use]
    pub fn matches_value(&self, value: Option<&str>) -> bool {
        match self.operator {
            Operator::Equals | Operator::In => {
                value.is_some_and(|v| self.values.iter().any(|w| w == v))
            }
            Operator::NotEquals | Operator::NotIn => {
                value.is_none_or(|v| self.values.iter().all(|w| w != v))
            }
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let (Some(label), Some(bound)) = (
                    value.and_then(|v| v.parse::<i64>().ok()),
                    self.values.first().and_then(|v| v.parse::<i64>().ok()),
                ) else {
                    return false;
                };
                if self.operator == Operator::GreaterThan { label > bound } else { label < bound }
            }
        }
    }
}

impl Selector {
    /// A selector of these requirements.
    #[must_use]
    pub fn new(requirements: Vec<Requirement>) -> Self {
        Self { requirements: requirements.into() }
    }

    /// Reads the string form: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>5,m<5`.
    ///
    /// Keys and values are checked as Kubernetes checks them. Requirements come out in key order,
    /// values sorted and unique, so equal selectors are equal values.
    ///
    /// # Errors
    /// With the parser's complaint, when the text does not follow the grammar of
    /// `k8s.io/apimachinery/pkg/labels`.
    pub fn parse(text: &str) -> Result<Self, InvalidSelector> {
        let mut requirements = grammar::parse(text)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self::new(requirements))
    }

    /// The requirements.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether it matches everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The selector that matches everything.
    #[must_use]
    pub fn everything() -> &'static Self {
        static EVERYTHING: LazyLock<Selector> = LazyLock::new(Selector::default);
        &EVERYTHING
    }

    /// Whether a label set fulfils every requirement.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Whether a series that carries at least `constant` (and maybe more labels, never other
    /// values for these) could fulfil every requirement.
    #[must_use]
    pub fn may_match(&self, constant: &Labels) -> bool {
        self.requirements.iter().all(|r| match constant.get(&r.key) {
            Some(value) => r.matches_value(Some(value)),
            None => true,
        })
    }
}

impl fmt::Display for Selector {
    /// The string form, as `kubectl` and Go's `labels.Selector` print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let values = r.values.join(",");
            match r.operator {
                Operator::Equals => write!(f, "{}={values}", r.key),
                Operator::NotEquals => write!(f, "{}!={values}", r.key),
                Operator::In => write!(f, "{} in ({values})", r.key),
                Operator::NotIn => write!(f, "{} notin ({values})", r.key),
                Operator::Exists => f.write_str(&r.key),
                Operator::DoesNotExist => write!(f, "!{}", r.key),
                Operator::GreaterThan => write!(f, "{}>{values}", r.key),
                Operator::LessThan => write!(f, "{}<{values}", r.key),
            }?;
        }
        Ok(())
    }
}
