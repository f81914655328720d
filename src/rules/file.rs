//! The file format.
//!
//! Responsible for: what a file must look like, with every mistake and its place. Verdicts are the
//! original's, with one exception that needs the cluster: an override that names a resource which
//! the cluster does not have is no mistake of the file (see [`crate::rules::Registry::build`]).

mod document;
mod window;

use std::path::Path;
use std::sync::Arc;

use crate::model::Problem;
use crate::rules::file::document::{Located, Mistake, Mistakes, Resources, RuleDoc};
use crate::rules::regex::GoRegex;
use crate::rules::rule::{Filter, LabelTemplate, Mapping, Naming, Override, Place, Rule};
use crate::rules::template::Template;
use crate::rules::yaml::{self, At};

/// A rule file, checked.
#[derive(Debug)]
pub struct RuleFile {
    /// `rules`, in order.
    pub custom: Vec<Arc<Rule>>,
    /// `externalRules`, in order.
    pub external: Vec<Arc<Rule>>,
    /// Where `resourceRules` stand, which are not served here (metrics-server is their place).
    pub resource_rules: Option<Place>,
}

impl RuleFile {
    /// Reads a file's text as the original does: the first YAML document, strictly.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Vec<Problem>> {
        let problem = |Mistake { at, field, message }| {
            Problem::new(path, message).at(at.line, at.column).with_field(field)
        };
        let root = yaml::parse(text).map_err(|broken| {
            let yaml::Broken { at, message } = broken;
            vec![problem(Mistake { at, field: String::new(), message })]
        })?;
        let mut mistakes = Mistakes::default();
        let document = root.map(|root| document::read(&root, &mut mistakes)).unwrap_or_default();
        let mut checker = Checker { path, mistakes };
        let custom = checker.rules("rules", &document.rules);
        let external = checker.rules("externalRules", &document.external_rules);
        let resource_rules = document.resource_rules.map(|rules| {
            checker.resource_rules(&rules.value);
            Place { path: path.to_owned(), line: rules.at.line, field: "resourceRules".into() }
        });
        let mut mistakes = checker.mistakes.0;
        if mistakes.is_empty() {
            return Ok(Self { custom, external, resource_rules });
        }
        mistakes.sort_by_key(|mistake| mistake.at);
        Err(mistakes.into_iter().map(problem).collect())
    }
}

struct Checker<'a> {
    path: &'a Path,
    mistakes: Mistakes,
}

impl Checker<'_> {
    /// The rules of a list; those with mistakes are left out.
    fn rules(&mut self, list: &str, documents: &[RuleDoc]) -> Vec<Arc<Rule>> {
        let checked = documents.iter().enumerate().filter_map(|(index, document)| {
            self.rule(&format!("{list}[{index}]"), document).map(Arc::new)
        });
        checked.collect()
    }

    fn rule(&mut self, field: &str, document: &RuleDoc) -> Option<Rule> {
        let mut filters = Vec::with_capacity(document.series_filters.len());
        for (index, filter) in document.series_filters.iter().enumerate() {
            filters.push(self.filter(&format!("{field}.seriesFilters[{index}]"), filter));
        }
        let naming = self.naming(field, document);
        let mapping = self.mapping(&format!("{field}.resources"), &document.resources);
        let query = self.template(&format!("{field}.metricsQuery"), &document.metrics_query);
        let mut filters: Vec<Filter> = filters.into_iter().collect::<Option<_>>()?;
        let naming = naming?;
        // A series that the name does not match is not the rule's.
        if !document.name.matches.value.is_empty() {
            filters.push(Filter { regex: naming.matches.clone(), negated: false });
        }
        Some(Rule {
            place: Place {
                path: self.path.to_owned(),
                line: document.at.line,
                field: field.into(),
            },
            series_query: document.series_query.value.as_str().into(),
            filters,
            naming,
            mapping: mapping?,
            query: query?,
            query_text: document.metrics_query.value.as_str().into(),
        })
    }

    fn filter(&mut self, field: &str, filter: &document::Filter) -> Option<Filter> {
        let (is, is_not) = (&filter.is, &filter.is_not);
        let (key, text, negated) = match (is.value.is_empty(), is_not.value.is_empty()) {
            (false, true) => ("is", is, false),
            (true, false) => ("isNot", is_not, true),
            (true, true) => {
                let message = "a filter needs either `is` or `isNot`";
                self.mistakes.add(filter.at, field, message);
                return None;
            }
            (false, false) => {
                let message = format!(
                    "a filter has either `is` ({:?}) or `isNot` ({:?}), not both",
                    is.value, is_not.value
                );
                self.mistakes.add(filter.at, field, message);
                return None;
            }
        };
        let regex = self.regex(&format!("{field}.{key}"), text)?;
        Some(Filter { regex, negated })
    }

    fn naming(&mut self, field: &str, document: &RuleDoc) -> Option<Naming> {
        let name = &document.name;
        let pattern = &name.matches;
        let matches = if pattern.value.is_empty() {
            GoRegex::new(".*").ok()?
        } else {
            self.regex(&format!("{field}.name.matches"), pattern)?
        };
        let rewrite = match (name.rewrite.value.as_str(), matches.groups()) {
            ("", 0) => "$0",
            ("", 1) => "$1",
            ("", groups) => {
                let message = format!(
                    "{:?} has {groups} groups, so `as` has to say which of them make the name, \
                     for example \"${{1}}_${{2}}\"",
                    pattern.value
                );
                self.mistakes.add(name.at, &format!("{field}.name"), message);
                return None;
            }
            (text, _) => text,
        };
        Some(Naming { matches, rewrite: rewrite.into() })
    }

    fn mapping(&mut self, field: &str, resources: &Resources) -> Option<Mapping> {
        let before = self.mistakes.0.len();
        let template_field = format!("{field}.template");
        let template = match resources.template.value.as_str() {
            "" => None,
            text => self.template(&template_field, &resources.template).and_then(|template| {
                LabelTemplate::new(text, template)
                    .map_err(|message| {
                        self.mistakes.add(resources.template.at, &template_field, message);
                    })
                    .ok()
            }),
        };
        for entry in &resources.overrides {
            let Located { at, value } = &entry.resource;
            let field = format!("{field}.overrides.{}.resource", entry.label);
            let at = if *at == At::default() { entry.at } else { *at };
            if value.is_empty() {
                self.mistakes.add(at, &field, "a resource must be named");
            } else if value.contains(['.', '/']) {
                // No resource has such a name, in any cluster.
                let message = format!(
                    "{value:?} cannot be a resource: name the resource alone, and its API group \
                     in `group`"
                );
                self.mistakes.add(at, &field, message);
            }
        }
        (self.mistakes.0.len() == before).then(|| Mapping {
            template,
            overrides: resources.overrides.iter().map(overriding).collect(),
            namespaced: resources.namespaced.unwrap_or(true),
        })
    }

    fn template(&mut self, field: &str, text: &Located<String>) -> Option<Template> {
        Template::parse(&text.value)
            .map_err(|error| {
                let place = match (error.line, error.column) {
                    (0, _) => String::new(),
                    (line, 0) => format!(" (line {line} of the template)"),
                    (line, column) => format!(" (line {line}, column {column} of the template)"),
                };
                self.mistakes.add(text.at, field, format!("{}{place}", error.message));
            })
            .ok()
    }

    fn regex(&mut self, field: &str, text: &Located<String>) -> Option<GoRegex> {
        GoRegex::new(&text.value).map_err(|error| self.mistakes.add(text.at, field, error)).ok()
    }

    /// `resourceRules` are not served, but a file that the original refuses is refused.
    fn resource_rules(&mut self, rules: &document::ResourceRules) {
        for (name, rule) in [("cpu", &rules.cpu), ("memory", &rules.memory)] {
            let field = format!("resourceRules.{name}");
            self.template(&format!("{field}.containerQuery"), &rule.container_query);
            self.template(&format!("{field}.nodeQuery"), &rule.node_query);
            self.mapping(&format!("{field}.resources"), &rule.resources);
        }
        if let Some(text) = &rules.window
            && let Err(message) = window::check(&text.value)
        {
            self.mistakes.add(text.at, "resourceRules.window", message);
        }
    }
}

fn overriding(entry: &document::Override) -> Override {
    Override {
        label: entry.label.as_str().into(),
        group: entry.group.value.as_str().into(),
        resource: entry.resource.value.as_str().into(),
    }
}

#[cfg(test)]
mod tests;
