//! A metric resource as the API server gives it, as far as anything of it is kept.
//!
//! Decoded leniently: an object of an odd form must not cost the list that it is in, so that any
//! JSON is an object, and [`Object::id`] says what is wrong with one that cannot be used.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::model::{DefinitionId, DefinitionKind};

/// Largest spec, as compact JSON: a question of 500 CloudWatch metrics takes less. etcd takes
/// 1.5 MiB, and 500 of those in a namespace would be too much for us.
pub(super) const MAX_SPEC_BYTES: usize = 128 << 10;

/// Largest status that is kept. Ours take some 10 KiB at most; who has no status subresource can
/// write another into it.
const MAX_STATUS_BYTES: usize = 32 << 10;

/// The version of all kinds.
const VERSION: &str = "v1alpha1";

/// The annotations that are kept: ours.
const ANNOTATIONS: &str = "tidepole.dev/";

/// A digest of what decides how a resource is read.
pub(super) type Digest = [u8; 32];

/// A metric resource.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// Name, namespace and version.
    metadata: ObjectMeta,
    pub(super) uid: Arc<str>,
    pub(super) generation: i64,
    /// That of an object that does not say so is far in the future: it comes after all others.
    pub(super) created: Timestamp,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) spec: Spec,
    /// Of `spec` and `annotations`.
    pub(super) digest: Digest,
    /// As compact JSON: a tenth of the room that it takes as a tree.
    pub(super) status: Option<Arc<str>>,
}

/// `spec` of a resource.
#[derive(Clone, Debug)]
pub(super) enum Spec {
    /// As it is.
    Read(Value),
    /// Larger than [`MAX_SPEC_BYTES`]: its bytes.
    TooLarge(usize),
}

/// The resource of a kind, as its API is addressed.
pub(super) fn api_resource(kind: DefinitionKind) -> ApiResource {
    let group = kind.group();
    // The kind's own name: those of other groups have theirs behind it.
    let name = kind.as_str().split('.').next().unwrap_or_default();
    ApiResource {
        group: group.to_owned(),
        version: VERSION.to_owned(),
        api_version: format!("{group}/{VERSION}"),
        kind: name.to_owned(),
        plural: kind.plural().to_owned(),
    }
}

impl Object {
    /// Which one it is.
    ///
    /// # Errors
    /// With what is wrong with it, when that cannot be told.
    pub(super) fn id(&self, kind: DefinitionKind) -> Result<DefinitionId, &'static str> {
        let given = |text: &Option<String>| {
            text.as_deref().filter(|text| !text.is_empty()).map(Arc::<str>::from)
        };
        let name = given(&self.metadata.name).ok_or("an object without a name")?;
        let namespace = match (kind.is_namespaced(), given(&self.metadata.namespace)) {
            (true, None) => return Err("an object without a namespace"),
            (true, namespace) => namespace,
            (false, _) => None,
        };
        Ok(DefinitionId { kind, namespace, name })
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Members(&OBJECT).deserialize(deserializer)?.into())
    }
}

/// The members of an object that are read, and of its metadata. Who wrote which field
/// (`managedFields`) is half of what the API server sends.
const OBJECT: [&str; 3] = [METADATA, "spec", "status"];
const METADATA: &str = "metadata";
const METADATA_MEMBERS: [&str; 7] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "annotations",
];

/// Reads these members of a JSON object and skips all others. What is no object is null.
struct Members(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Members {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if !self.0.contains(&&*key) {
                map.next_value::<IgnoredAny>()?;
            } else if key == METADATA {
                found.insert(key, map.next_value_seed(Members(&METADATA_MEMBERS))?);
            } else {
                found.insert(key, map.next_value()?);
            }
        }
        Ok(Value::Object(found))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

impl From<Value> for Object {
    fn from(mut value: Value) -> Self {
        let mut part = |name| value.get_mut(name).map(Value::take).unwrap_or_default();
        let (mut metadata, spec, status) = (part("metadata"), part("spec"), part("status"));
        let text = |name| metadata.get(name).and_then(Value::as_str);
        let created = text("creationTimestamp").and_then(|text| text.parse().ok());
        let uid = text("uid").unwrap_or_default().into();
        let generation = metadata.get("generation").and_then(Value::as_i64).unwrap_or_default();
        let mut annotations = BTreeMap::new();
        if let Some(Value::Object(found)) = metadata.get_mut("annotations").map(Value::take) {
            let ours = found.into_iter().filter(|(key, _)| key.starts_with(ANNOTATIONS));
            annotations.extend(ours.filter_map(|(key, value)| match value {
                Value::String(value) => Some((key, value)),
                _ => None,
            }));
        }
        let mut text = |name| match metadata.get_mut(name).map(Value::take) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let metadata = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        let written = spec.to_string();
        let mut digest = Sha256::new();
        digest.update(&written);
        for (key, value) in &annotations {
            // Lengths, so that no two sets of texts run together into one.
            for text in [key, value] {
                digest.update(text.len().to_le_bytes());
                digest.update(text);
            }
        }
        let spec = if written.len() > MAX_SPEC_BYTES {
            Spec::TooLarge(written.len())
        } else {
            Spec::Read(spec)
        };
        let status = (!status.is_null()).then(|| status.to_string());
        Self {
            metadata,
            uid,
            generation,
            created: created.unwrap_or(Timestamp::MAX),
            annotations,
            spec,
            digest: digest.finalize().into(),
            status: status.filter(|text| text.len() <= MAX_STATUS_BYTES).map(Arc::from),
        }
    }
}

impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Object {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    #[test]
    fn what_is_needed_is_kept() {
        let object = read(&json!({
            "apiVersion": "tidepole.dev/v1alpha1", "kind": "ExternalMetric",
            "metadata": {
                "name": "jobs", "namespace": "shop", "resourceVersion": "7", "uid": "u",
                "generation": 3, "creationTimestamp": "2026-11-21T12:00:00Z",
                "annotations": {"tidepole.dev/a": "b", "kubectl": "{}", "tidepole.dev/odd": 7},
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {"scale": 0.1}, "status": {"value": "5"},
        }));
        assert_eq!((&*object.uid, object.generation), ("u", 3));
        assert_eq!(object.created, "2026-11-21T12:00:00Z".parse().unwrap());
        let kept = BTreeMap::from([("tidepole.dev/a".to_owned(), "b".to_owned())]);
        assert_eq!(object.annotations, kept);
        assert!(matches!(&object.spec, Spec::Read(spec) if *spec == json!({"scale": 0.1})));
        assert_eq!(object.status.as_deref(), Some(r#"{"value":"5"}"#));
        let id = object.id(DefinitionKind::AwsExternalMetric).unwrap();
        assert_eq!(id.resource_path(), "externalmetrics.metrics.aws/shop/jobs");
        assert!(object.id(DefinitionKind::ClusterCustomMetric).unwrap().namespace.is_none());
        assert_eq!(object.meta().resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn any_json_is_an_object() {
        for value in [
            json!(7),
            json!(-7),
            json!(0.7),
            json!(true),
            json!(null),
            json!([1]),
            json!("x"),
            json!({}),
            json!({"metadata": 7, "spec": [], "status": 7}),
            json!({"metadata": {"name": ["x"], "annotations": [], "generation": "3"}}),
            json!({"metadata": {"name": "", "creationTimestamp": "yesterday"}}),
        ] {
            let object = read(&value);
            let error = object.id(DefinitionKind::ExternalMetric).unwrap_err();
            assert_eq!(error, "an object without a name", "{value}");
            assert_eq!(object.created, Timestamp::MAX);
        }
        let stray = read(&json!({"metadata": {"name": "x"}}));
        assert!(stray.id(DefinitionKind::CustomMetric).is_err());
    }

    #[test]
    fn a_digest_is_of_what_decides_and_nothing_else() {
        let digest = |metadata: Value, spec: Value, status: Value| {
            read(&json!({"metadata": metadata, "spec": spec, "status": status})).digest
        };
        let plain = digest(json!({}), json!({"a": 1}), json!(null));
        let other = json!({"resourceVersion": "8", "generation": 2, "annotations": {"a": "b"}});
        assert_eq!(plain, digest(other, json!({"a": 1}), json!({"b": 1})));
        assert_ne!(plain, digest(json!({}), json!({"a": 2}), json!(null)));
        let noted = json!({"annotations": {"tidepole.dev/a": "b"}});
        assert_ne!(plain, digest(noted, json!({"a": 1}), json!(null)));
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let long = "x".repeat(MAX_SPEC_BYTES);
        let object = read(&json!({"spec": {"a": long}, "status": {"a": long}}));
        assert!(matches!(object.spec, Spec::TooLarge(bytes) if bytes == long.len() + 8));
        assert_eq!(object.status, None);
    }

    #[test]
    fn every_kind_has_its_path() {
        let paths =
            DefinitionKind::RESOURCES.map(|kind| Object::url_path(&api_resource(kind), None));
        assert_eq!(
            paths,
            [
                "/apis/tidepole.dev/v1alpha1/externalmetrics",
                "/apis/tidepole.dev/v1alpha1/clusterexternalmetrics",
                "/apis/tidepole.dev/v1alpha1/custommetrics",
                "/apis/tidepole.dev/v1alpha1/clustercustommetrics",
                "/apis/metrics.aws/v1alpha1/externalmetrics",
            ]
        );
        assert_eq!(api_resource(DefinitionKind::AwsExternalMetric).kind, "ExternalMetric");
    }
}
