use std::collections::BTreeSet;

use super::*;

/// Every part of a schema with its path.
fn parts<'a>(schema: &'a Schema, path: &str, found: &mut Vec<(String, &'a Schema)>) {
    found.push((path.to_owned(), schema));
    for (key, below) in &schema.properties {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        parts(below, &path, found);
    }
    if let Some(items) = &schema.items {
        parts(items, &format!("{path}[]"), found);
    }
    if let Some(values) = &schema.additional_properties {
        parts(values, &format!("{path}{{}}"), found);
    }
}

fn fields(kind: DefinitionKind, path: &str) -> BTreeSet<String> {
    let mut schema = resource(kind).unwrap();
    schema.at(path).unwrap().properties.keys().cloned().collect()
}

#[test]
fn every_kind_has_its_own_fields() {
    use DefinitionKind::{
        ClusterCustomMetric, ClusterExternalMetric, CustomMetric, ExternalMetric,
    };

    let external = fields(ExternalMetric, "spec");
    let cluster = fields(ClusterExternalMetric, "spec");
    let added: Vec<&String> = cluster.difference(&external).collect();
    assert_eq!(added, ["namespaceSelector", "namespaces"]);
    assert!(external.contains("sqs") && !external.contains("resource"));
    let custom = fields(CustomMetric, "spec");
    let added: Vec<&String> = custom.difference(&external).collect();
    assert_eq!(added, ["resource"]);
    let gone: Vec<&String> = external.difference(&custom).collect();
    assert_eq!(gone, ["aggregate", "cloudwatch", "labels", "simulated", "sqs"]);
    assert!(fields(ClusterCustomMetric, "spec").contains("namespaces"));
    assert!(fields(CustomMetric, "spec.prometheus").contains("objectLabel"));
    assert!(!fields(ExternalMetric, "spec.prometheus").contains("objectLabel"));
    assert!(!fields(ExternalMetric, "spec.simulated").contains("csv"));
}

#[test]
fn every_table_is_about_fields_that_exist() {
    let mut whole = schema::of::<Spec>().unwrap();
    let mut paths: Vec<String> = BOUNDS.iter().map(|(path, _)| (*path).to_owned()).collect();
    paths.extend(SIMULATED_NUMBERS.map(|path| format!("spec.simulated.{path}")));
    paths.extend(DefinitionKind::ALL.into_iter().flat_map(foreign));
    for path in paths {
        assert!(whole.at(path.strip_prefix("spec.").unwrap()).is_some(), "{path}");
    }
    for kind in DefinitionKind::ALL {
        for (path, validation) in Rules::of(kind) {
            let mut schema = resource(kind).unwrap();
            let place = schema.at(&path).unwrap_or_else(|| panic!("{kind:?} has no {path}"));
            if let Some(field) = &validation.field_path {
                assert!(place.at(field).is_some(), "{path}: {validation:?}");
            }
        }
    }
}

#[test]
fn every_field_is_described_and_every_text_and_list_of_a_spec_is_bounded() {
    for kind in DefinitionKind::ALL {
        let schema = resource(kind).unwrap();
        let mut found = Vec::new();
        parts(&schema, "", &mut found);
        for (path, part) in found {
            let is_inner = path.ends_with("[]") || path.ends_with("{}") || path == "metadata";
            assert!(is_inner || part.description.is_some(), "{path} has no description");
            if !path.starts_with("spec") {
                continue;
            }
            let is_text = part.r#type.as_deref() == Some("string") || part.int_or_string;
            let is_one_of = !part.r#enum.is_empty() || part.pattern.is_some();
            assert!(!is_text || is_one_of || part.max_length.is_some(), "{path} has no bound");
            assert!(part.items.is_none() || part.max_items.is_some(), "{path} has no bound");
            let is_mapping = part.additional_properties.is_some();
            assert!(!is_mapping || part.max_properties.is_some(), "{path} has no bound");
        }
    }
}

#[test]
fn what_cannot_be_left_out_is_required() {
    let mut schema = resource(DefinitionKind::ExternalMetric).unwrap();
    for (path, required) in [
        ("", &["spec"][..]),
        ("spec", &[]),
        ("spec.prometheus", &["query"]),
        ("spec.sqs", &["queues"]),
        ("spec.cloudwatch", &[]),
        ("spec.cloudwatch.queries[]", &["id"]),
        ("spec.cloudwatch.metric", &["name", "namespace", "statistic"]),
        ("spec.simulated.wave", &["max", "min", "period"]),
        ("spec.simulated.noise", &["max", "min"]),
        ("status", &[]),
    ] {
        let mut found = schema.at(path).unwrap().required.clone();
        found.sort();
        assert_eq!(found, required, "{path}");
    }
    let mut schema = resource(DefinitionKind::CustomMetric).unwrap();
    assert_eq!(schema.at("spec").unwrap().required, ["resource", "prometheus"]);
}
