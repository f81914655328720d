//! The series that a rule is written for, as far as its own text tells.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::SeriesShape;
use crate::rules::question::promql::{Word, words};
use crate::rules::rule::Rule;

/// The label of a series' name.
const NAME: &str = "__name__";

impl Rule {
    /// A series that the rule is about, without asking anybody: the name that its series query
    /// spells out, with the labels that the query wants to be there, those of the overrides and, if
    /// the query has none of them, those of the template for namespaces and pods. None where the series
    /// query names no metric, or filters leave it out.
    #[must_use]
    pub fn assumed_series(&self) -> Option<SeriesShape> {
        let words = words(&self.series_query)?;
        let mut name = match words.first() {
            Some(Word::Name(name)) => Some(name.as_str()),
            _ => None,
        };
        let mut labels: BTreeSet<String> = BTreeSet::new();
        for matcher in words.windows(3) {
            let [Word::Name(label), Word::Sign(sign), Word::Text(value)] = matcher else {
                continue;
            };
            match (label.as_str(), *sign, value.as_str()) {
                (NAME, "=", value) => name = Some(value),
                (NAME, ..) | (_, "=", "") => {}
                (label, "=", _) | (label, "!=", "") | (label, "=~", ".+") => {
                    labels.insert(label.to_owned());
                }
                _ => {}
            }
        }
        let name = name.filter(|name| !name.is_empty() && self.metric_name(name).is_some())?;
        labels.extend(self.mapping.overrides.iter().map(|entry| entry.label.to_string()));
        if let Some(template) = &self.mapping.template
            && self.mapping.overrides.is_empty()
        {
            let usual = ["namespace", "pod"].map(|resource| template.write("", resource).ok());
            let usual: Vec<String> = usual.into_iter().flatten().collect();
            if !usual.iter().any(|label| labels.contains(label)) {
                labels.extend(usual);
            }
        }
        let labels: Vec<Arc<str>> = labels.into_iter().map(Arc::from).collect();
        Some(SeriesShape { name: name.into(), labels: labels.into() })
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::parse;

    fn assumed(rule: &str) -> Option<String> {
        let file = parse(&format!("rules:\n- {{ metricsQuery: x, {rule} }}\n"));
        let series = file.custom[0].assumed_series()?;
        Some(format!("{}({})", series.name, series.labels.join(",")))
    }

    #[test]
    fn a_series_query_that_names_its_series_is_read() {
        let template = "resources: { template: '<<.Resource>>' }";
        for (series, resources, wanted) in [
            (
                r#"a{namespace!="",pod=~".+",x="",y="1",z!="1"}"#,
                template,
                Some("a(namespace,pod,y)"),
            ),
            ("a", template, Some("a(namespace,pod)")),
            (r#"{__name__="a",host="b"}"#, template, Some("a(host,namespace,pod)")),
            ("a", "resources: { overrides: { ns: { resource: namespace } } }", Some("a(ns)")),
            (r#"{__name__=~"^a_.*"}"#, template, None),
            ("a", "seriesFilters: [{ isNot: a }], resources: { template: '<<.Resource>>' }", None),
        ] {
            let rule = format!("seriesQuery: '{series}', {resources}");
            assert_eq!(assumed(&rule).as_deref(), wanted, "{rule}");
        }
    }
}
