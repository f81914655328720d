//! Which series a rule takes, and what it calls their metrics.

use std::sync::Arc;

use crate::rules::regex::GoRegex;

/// `seriesFilters`: a condition on the names of series.
#[derive(Clone, Debug)]
pub(in crate::rules) struct Filter {
    /// What is looked for, anywhere in the name.
    pub(in crate::rules) regex: GoRegex,
    /// `isNot`: names that match do not pass.
    pub(in crate::rules) negated: bool,
}

impl Filter {
    pub(super) fn passes(&self, series: &str) -> bool {
        self.regex.is_match(series) != self.negated
    }
}

/// `name`: how the name of a series becomes the name of a metric.
#[derive(Clone, Debug)]
pub(in crate::rules) struct Naming {
    /// Matched anywhere in the name of the series.
    pub(in crate::rules) matches: GoRegex,
    /// The template of what is expanded for the first match. That alone is the metric's name, not
    /// the rest of the series' name.
    pub(in crate::rules) rewrite: Arc<str>,
}

impl Naming {
    /// May be empty, as in the original: the expansion of a group that matched nothing.
    pub(in crate::rules) fn name(&self, series: &str) -> Option<String> {
        self.matches.expand(&self.rewrite, series)
    }
}
