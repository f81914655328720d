//! A resource of the cluster, read as the document that it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value as Json;

use crate::definition::compat;
use crate::definition::document::API_VERSION;
use crate::definition::field::Field;
use crate::definition::report::Report;
use crate::definition::yaml::{self, Document, Key, MAX_DEPTH, Mistake, Node, Place};
use crate::definition::{Context, Definition, read_one};
use crate::model::{DefinitionId, DefinitionKind, Origin, Problem};

/// A resource as the API server gives it, without what only the API server cares about.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    /// Which one.
    pub id: &'a DefinitionId,
    /// `metadata.creationTimestamp`
    pub created: Timestamp,
    /// `metadata.annotations`
    pub annotations: &'a BTreeMap<String, String>,
    /// `spec`, of whatever form: the API server may not have checked it.
    pub spec: &'a Json,
}

/// Reads a resource. Its problems name it by [`DefinitionId::resource_path`] and have no lines.
#[must_use]
pub fn read(resource: &Resource<'_>, context: &Context<'_>) -> Definition {
    let path = PathBuf::from(resource.id.resource_path());
    let origin = Origin::Resource { created: resource.created };
    if resource.id.kind == DefinitionKind::AwsExternalMetric {
        // Its spec is read as it is: what is not known of it is none of ours, whatever its form.
        let spec = at_no_place(yaml::Value::Map(Vec::new()));
        let document = Document { root: root(resource.id, spec), mistakes: Vec::new() };
        return compat::metrics_aws::read(resource, Report::new(&path, &document), context, origin);
    }
    let mut mistakes = Vec::new();
    let Some(spec) = node(resource.spec, &Field::of("spec"), MAX_DEPTH, &mut mistakes) else {
        let message = format!("nested more than {MAX_DEPTH} levels deep");
        let problem = Problem::new(path, message).with_field("spec");
        let (id, question) = (Some(resource.id.clone()), Place::default());
        return Definition { id, question, outcome: Err(vec![problem]) };
    };
    let document = Document { root: root(resource.id, spec), mistakes };
    read_one(Report::new(&path, &document), context, origin)
}

/// The document of a file that would say the same.
fn root(id: &DefinitionId, spec: Node) -> Node {
    let mut metadata = vec![(key("name"), text(&id.name))];
    metadata.extend(id.namespace.as_ref().map(|namespace| (key("namespace"), text(namespace))));
    at_no_place(yaml::Value::Map(vec![
        (key("apiVersion"), text(API_VERSION)),
        (key("kind"), text(id.kind.as_str())),
        (key("metadata"), at_no_place(yaml::Value::Map(metadata))),
        (key("spec"), spec),
    ]))
}

/// The same value in the form that documents of files have; none when it is nested too deep. A
/// number that is not a whole one is a mistake: the API server takes none of these kinds with one,
/// and what it takes is not to depend on whether it was asked.
fn node(value: &Json, at: &Field, depth: usize, mistakes: &mut Vec<Mistake>) -> Option<Node> {
    let scalar = |text: String, plain| yaml::Value::Scalar { text, plain };
    Some(at_no_place(match value {
        Json::Null => scalar("null".to_owned(), true),
        Json::Bool(value) => scalar(value.to_string(), true),
        Json::Number(number) => {
            if number.as_i64().is_none() {
                let message = format!(
                    "{number} is not a whole number of 64 bits, and other numbers are text in a resource; write it as \"{number}\""
                );
                mistakes.push(Mistake { place: Place::default(), field: at.clone(), message });
            }
            scalar(number.to_string(), true)
        }
        Json::String(text) => scalar(text.clone(), false),
        Json::Array(items) => {
            let depth = depth.checked_sub(1)?;
            let items = items.iter().enumerate();
            let items = items.map(|(index, item)| node(item, &at.index(index), depth, mistakes));
            yaml::Value::List(items.collect::<Option<_>>()?)
        }
        Json::Object(pairs) => {
            let depth = depth.checked_sub(1)?;
            let pairs = pairs.iter().map(|(name, value)| {
                Some((key(name), node(value, &at.key(name), depth, mistakes)?))
            });
            yaml::Value::Map(pairs.collect::<Option<_>>()?)
        }
    }))
}

fn key(text: &str) -> Key {
    Key { place: Place::default(), text: text.to_owned() }
}

fn text(text: &str) -> Node {
    at_no_place(yaml::Value::Scalar { text: text.to_owned(), plain: false })
}

fn at_no_place(value: yaml::Value) -> Node {
    Node { place: Place::default(), value }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::definition::{Author, Defaults};
    use crate::model::{Entry, MetricName, Scope};

    fn read_spec(kind: DefinitionKind, spec: &Json) -> Result<Entry, Vec<String>> {
        let namespace: Option<Arc<str>> = kind.is_namespaced().then(|| "shop".into());
        let id = DefinitionId { kind, namespace, name: "jobs".into() };
        let read_file = |_: &std::path::Path, _: usize| Err(std::io::ErrorKind::NotFound.into());
        let context = Context {
            sources: None,
            defaults: &Defaults::default(),
            cluster: true,
            author: Author::Tenant,
            read_file: &read_file,
        };
        let annotations = BTreeMap::new();
        let created = Timestamp::UNIX_EPOCH;
        let resource = Resource { id: &id, created, annotations: &annotations, spec };
        let definition = read(&resource, &context);
        assert_eq!(definition.id.as_ref(), Some(&id));
        definition.outcome.map_err(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_resource_says_the_same_as_a_file() {
        let spec = json!({ "metric": "Jobs_Depth", "prometheus": { "query": "up" }, "scale": 2 });
        let entry = read_spec(DefinitionKind::ExternalMetric, &spec).unwrap();
        assert_eq!(entry.metric, MetricName::external("jobs_depth").unwrap());
        assert_eq!(entry.scope, Scope::Namespace("shop".into()));
        assert_eq!(entry.origin, Origin::Resource { created: Timestamp::UNIX_EPOCH });
        assert_eq!(entry.transform.scale, 2_i64.into());
    }

    #[test]
    fn problems_name_the_resource_and_the_field() {
        let spec = json!({ "prometheus": { "query": 7 }, "refersh": "1s" });
        assert_eq!(
            read_spec(DefinitionKind::ClusterExternalMetric, &spec).unwrap_err(),
            [
                "clusterexternalmetrics.tidepole.dev/jobs: spec.prometheus.query: expected text, found 7; write it as \"7\"",
                "clusterexternalmetrics.tidepole.dev/jobs: spec.refersh: unknown field; did you mean `refresh`?",
            ]
        );
        assert!(read_spec(DefinitionKind::ExternalMetric, &Json::Null).is_err());
    }

    #[test]
    fn numbers_are_whole_or_text() {
        let spec = json!({ "prometheus": { "query": "up" }, "scale": "0.5", "max": -1, "min": -2, "allowNegative": true });
        assert!(read_spec(DefinitionKind::ExternalMetric, &spec).is_ok());
        let spec =
            json!({ "simulated": { "steps": [{ "value": 0.5, "for": "1s" }] }, "max": u64::MAX });
        assert_eq!(
            read_spec(DefinitionKind::ExternalMetric, &spec).unwrap_err(),
            [
                "externalmetrics.tidepole.dev/shop/jobs: spec.max: 18446744073709551615 is not a whole number of 64 bits, and other numbers are text in a resource; write it as \"18446744073709551615\"",
                "externalmetrics.tidepole.dev/shop/jobs: spec.simulated.steps[0].value: 0.5 is not a whole number of 64 bits, and other numbers are text in a resource; write it as \"0.5\"",
            ]
        );
    }

    #[test]
    fn a_deep_spec_is_refused() {
        let mut spec = json!(1);
        for _ in 0..100 {
            spec = json!({ "a": spec });
        }
        assert_eq!(
            read_spec(DefinitionKind::CustomMetric, &spec).unwrap_err(),
            ["custommetrics.tidepole.dev/shop/jobs: spec: nested more than 64 levels deep"]
        );
    }
}
