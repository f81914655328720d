//! One metric of a rule.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::{GroupResource, ObjectsText, Policy, Resource, Selector, SourceName};
use crate::rules::question::{Matchers, RuleText, render};
use crate::rules::registry::resources::Labels;
use crate::rules::rule::Rule;

/// Most texts that are kept ready for one rule. An HPA asks for one; when there are more, all are
/// made anew, at some microseconds each.
const MAX_TEXTS: usize = 4096;

/// A metric of a rule: the series behind it and how it is asked for.
#[derive(Clone, Debug)]
pub struct RuleMetric {
    /// The name of the series.
    pub series: Arc<str>,
    /// The rule.
    pub rule: Arc<Rule>,
    /// Who answers.
    pub source: SourceName,
    /// How fresh it has to be.
    pub policy: Arc<Policy>,
    /// What the rule's labels mean in this cluster.
    pub(super) scene: Arc<Scene>,
}

/// A rule in a cluster, with the texts that were asked for: reads of one HPA ask for the same one
/// again and again.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) labels: Labels,
    texts: RwLock<HashMap<TextKey, ObjectsText>>,
}

/// Series, resource, namespace and selector.
type TextKey = (Arc<str>, GroupResource, Option<Box<str>>, Selector);

impl Scene {
    pub(super) fn new(labels: Labels) -> Arc<Self> {
        Arc::new(Self { labels, texts: RwLock::default() })
    }
}

impl RuleMetric {
    /// The question about objects of a resource: `namespace` is that of the path, if it has one.
    ///
    /// # Errors
    /// With a sentence, when the rule cannot ask: an operator that Prometheus does not have, no
    /// label for the resource, a template that cannot be executed. The original answers these with
    /// 404. A template that fails for certain names alone fails when the text is written.
    pub fn objects(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        metric_selector: &Selector,
    ) -> Result<ObjectsText, String> {
        let key = (
            Arc::clone(&self.series),
            resource.id.clone(),
            namespace.map(Box::from),
            metric_selector.clone(),
        );
        let texts = &self.scene.texts;
        if let Some(text) = texts.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(text.clone());
        }
        let mut matchers = Matchers::of(metric_selector)?;
        if let Some(namespace) = namespace {
            let label = self.scene.labels.of_namespaces(&self.rule)?;
            matchers.push(&label, "=", namespace.to_owned());
        }
        let label = self.scene.labels.of(&self.rule, resource)?;
        let text = RuleText::new(&self.rule, &self.series, matchers, &label)?;
        let text = ObjectsText(Arc::new(text));
        let mut texts = texts.write().unwrap_or_else(PoisonError::into_inner);
        if texts.len() >= MAX_TEXTS {
            texts.clear();
        }
        texts.insert(key, text.clone());
        Ok(text)
    }

    /// The text of the query behind an external metric. A selector on the label of namespaces
    /// stays beside the namespace's own matcher, as in the original: series of another namespace
    /// are never found.
    ///
    /// # Errors
    /// With a sentence, when it cannot be written. The original answers with 500.
    pub fn external(&self, namespace: &str, selector: &Selector) -> Result<String, String> {
        let mut matchers = Matchers::of(selector)?;
        if self.rule.mapping.namespaced && !namespace.is_empty() {
            let label = self.scene.labels.of_namespaces(&self.rule)?;
            matchers.push(&label, "=", namespace.to_owned());
        }
        // There is nothing to group by: `.GroupBy` is empty.
        render(&self.rule, &self.series, matchers, &[])
    }
}
