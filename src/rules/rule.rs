//! One rule.
//!
//! Responsible for: which series a rule takes and what it calls them (`naming`), and the form of
//! the labels that stand for resources (`labels`). What a cluster's resources make of that is the
//! registry's.

mod assumed;
mod labels;
mod naming;

use std::path::PathBuf;
use std::sync::Arc;

use crate::rules::template::Template;

pub(in crate::rules) use labels::{LabelTemplate, Mapping, Override};
pub(in crate::rules) use naming::{Filter, Naming};

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// First line of the rule (1-based).
    pub line: usize,
    /// `rules[3]`, `externalRules[0]`.
    pub field: Arc<str>,
}

/// One rule, checked.
#[derive(Debug)]
pub struct Rule {
    pub(in crate::rules) place: Place,
    pub(in crate::rules) series_query: Arc<str>,
    /// All must let a series pass; that of `name.matches` is among them.
    pub(in crate::rules) filters: Vec<Filter>,
    pub(in crate::rules) naming: Naming,
    pub(in crate::rules) mapping: Mapping,
    pub(in crate::rules) query: Template,
    /// The text of `query`.
    pub(in crate::rules) query_text: Arc<str>,
}

impl Rule {
    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The series selector that finds its series, as written.
    #[must_use]
    pub fn series_query(&self) -> &Arc<str> {
        &self.series_query
    }

    /// `metricsQuery`, as written.
    #[must_use]
    pub fn metrics_query(&self) -> &Arc<str> {
        &self.query_text
    }

    /// What the rule calls the metric of a series of this name; none when it takes no such series.
    #[must_use]
    pub fn metric_name(&self, series: &str) -> Option<String> {
        if self.takes(series) { self.naming.name(series) } else { None }
    }

    /// Whether a series of this name passes all filters.
    pub(in crate::rules) fn takes(&self, series: &str) -> bool {
        self.filters.iter().all(|filter| filter.passes(series))
    }
}
