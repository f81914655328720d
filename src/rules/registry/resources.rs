//! What a rule's labels mean in a cluster.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{GroupResource, Resource, ResourceDirectory};
use crate::rules::rule::Rule;

/// The labels by which a rule asks for resources, as far as overrides name them.
#[derive(Debug, Default)]
pub(super) struct Labels {
    by_resource: HashMap<GroupResource, Arc<str>>,
}

/// Namespaces are in every cluster, and in the core group.
fn namespaces() -> GroupResource {
    GroupResource { group: "".into(), resource: "namespaces".into() }
}

impl Labels {
    /// The label that holds the names of a resource's objects: that of an override, otherwise what
    /// the template makes of the resource.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn of(&self, rule: &Rule, resource: &Resource) -> Result<Arc<str>, String> {
        self.find(rule, &resource.id, &resource.singular)
    }

    /// The label that holds namespaces.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn of_namespaces(&self, rule: &Rule) -> Result<Arc<str>, String> {
        self.find(rule, &namespaces(), "namespace")
    }

    fn find(&self, rule: &Rule, id: &GroupResource, singular: &str) -> Result<Arc<str>, String> {
        if let Some(label) = self.by_resource.get(id) {
            return Ok(Arc::clone(label));
        }
        let Some(template) = &rule.mapping.template else {
            return Err(format!(
                "{} has no label for {id}: its resources need an override or a template",
                rule.place.field
            ));
        };
        template.write(&id.group, singular).map(Arc::from)
    }
}

/// A label that stands for a resource.
#[derive(Clone, Debug)]
pub(super) struct Meaning {
    pub(super) resource: Arc<Resource>,
    /// Queries ask by another label.
    pub(super) asked_by: Option<Arc<str>>,
}

/// What labels mean to a rule. Every label is looked up once, those that mean nothing too: series
/// have many labels, and a cluster many resources.
pub(super) struct Reader<'a> {
    rule: &'a Rule,
    directory: &'a dyn ResourceDirectory,
    labels: Labels,
    known: HashMap<Arc<str>, Option<Meaning>>,
}

impl<'a> Reader<'a> {
    /// Looks the overrides up. Of several labels for one resource the first of the file is asked
    /// by; the original takes any.
    ///
    /// # Errors
    /// When the cluster does not have a resource that an override names.
    pub(super) fn new(
        rule: &'a Rule,
        directory: &'a dyn ResourceDirectory,
    ) -> Result<Self, String> {
        let mut labels = Labels::default();
        let mut found = Vec::new();
        for entry in &rule.mapping.overrides {
            let Some(resource) = directory.resolve(&entry.group, &entry.resource) else {
                let group = match &*entry.group {
                    "" => String::new(),
                    group => format!(" in the group {group:?}"),
                };
                return Err(format!(
                    "resources.overrides.{}: the cluster has no resource {:?}{group}; the rule \
                     gives no metrics until it has",
                    entry.label, entry.resource
                ));
            };
            let label = &entry.label;
            labels.by_resource.entry(resource.id.clone()).or_insert_with(|| Arc::clone(label));
            found.push((Arc::clone(label), resource));
        }
        let mut reader = Self { rule, directory, labels, known: HashMap::new() };
        for (label, resource) in found {
            let meaning = reader.meaning(&label, resource);
            reader.known.insert(label, Some(meaning));
        }
        Ok(reader)
    }

    /// What a label stands for, if for anything.
    pub(super) fn read(&mut self, label: &Arc<str>) -> Option<&Meaning> {
        if !self.known.contains_key(label) {
            let resource = self.rule.mapping.template.as_ref().and_then(|template| {
                let (group, resource) = template.read(label)?;
                self.directory.resolve(group, resource)
            });
            let meaning = resource.map(|resource| self.meaning(label, resource));
            self.known.insert(Arc::clone(label), meaning);
        }
        self.known.get(label)?.as_ref()
    }

    /// The labels to ask by.
    pub(super) fn into_labels(self) -> Labels {
        self.labels
    }

    fn meaning(&self, label: &Arc<str>, resource: Arc<Resource>) -> Meaning {
        let asked_by = self.labels.of(self.rule, &resource).ok().filter(|by| by != label);
        Meaning { resource, asked_by }
    }
}
