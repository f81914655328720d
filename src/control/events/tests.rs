use super::*;
use crate::model::DefinitionKind;

#[test]
fn a_note_is_cut_between_characters() {
    assert_eq!(bounded("short"), "short");
    let long = bounded(&"é".repeat(5000));
    assert!(long.len() <= 1024 && long.ends_with("é…"), "{}", long.len());
}

#[test]
fn kinds_are_named_as_their_crds_name_them() {
    for (kind, api_version, name) in [
        (DefinitionKind::ExternalMetric, "tidepole.dev/v1alpha1", "ExternalMetric"),
        (DefinitionKind::ClusterCustomMetric, "tidepole.dev/v1alpha1", "ClusterCustomMetric"),
        (DefinitionKind::AwsExternalMetric, "metrics.aws/v1alpha1", "ExternalMetric"),
    ] {
        let id = DefinitionId { kind, namespace: None, name: "x".into() };
        let reference = reference(&id, "7");
        assert_eq!(reference.api_version.as_deref(), Some(api_version));
        assert_eq!(reference.kind.as_deref(), Some(name));
    }
}
