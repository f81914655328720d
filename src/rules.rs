//! prometheus-adapter's rules: which metrics a Prometheus' series make, and the queries behind them.
//!
//! Responsible for: the file format ([`mod@file`]), Go's templates and regular expressions as far as
//! rule files use them ([`template`], [`regex`]), how series become names and resources
//! ([`rule`]), what all rules make of all series ([`registry`]), and the text of a query
//! ([`question`]).
//! Not responsible for: when series are listed and files are read (`control`), fetching (`source`),
//! which objects there are (`objects`).
//!
//! Invariants: pure; one rule that fails breaks nothing but itself; of two rules that give one
//! metric the later wins, as in the original.

pub mod file;
mod letters;
pub mod question;
pub mod regex;
pub mod registry;
pub mod rule;
pub mod settings;
pub mod template;
#[cfg(test)]
mod testing;
mod yaml;

pub use file::RuleFile;
pub use registry::{Listed, Registry, RuleMetric, RuleProblem, RuleSet, Rules};
pub use rule::{Place, Rule};
pub use settings::RuleFileSettings;
