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

#[test]
fn a_namespace_that_goes_is_no_missing_permission() {
    let refused = |causes: &str, code: u16| {
        let status = format!(
            r#"{{"status": "Failure", "message": "no", "reason": "Forbidden", "code": {code},
                "details": {{"causes": [{causes}]}}}}"#
        );
        kube::Error::Api(serde_json::from_str(&status).unwrap())
    };
    let cause = r#"{"reason": "NamespaceTerminating", "message": "m", "field": "f"}"#;
    assert!(is_about_namespace(&refused(cause, 403)));
    assert!(!is_about_namespace(&refused("", 403)));
    let gone = |kind: &str| {
        let status = format!(
            r#"{{"status": "Failure", "message": "no", "reason": "NotFound", "code": 404,
                "details": {{"name": "x", "kind": "{kind}"}}}}"#
        );
        kube::Error::Api(serde_json::from_str(&status).unwrap())
    };
    assert!(is_about_namespace(&gone("namespaces")));
    assert!(!is_about_namespace(&gone("events")), "only the Event was deleted");
}
