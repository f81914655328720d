//! An object of any resource, as far as anything of it is kept.
//!
//! Decoded sparsely: the managed fields of a pod are ten times as large as all that we want. And
//! leniently: an object that is not as it should be must not cost the list that it is in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Name, namespace, version and labels of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    metadata: ObjectMeta,
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

    /// Only `PartialObjectMetadata` is asked for.
    fn metadata_api() -> bool {
        true
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Lenient::deserialize(deserializer).map(|Lenient(object)| object)
    }
}

/// What is read of a JSON value that ought to be of a certain form; of any other, nothing.
trait Sparse: Default {
    /// Takes in an entry of a map.
    fn entry<'de, A: MapAccess<'de>>(&mut self, _key: &str, map: &mut A) -> Result<(), A::Error> {
        map.next_value::<IgnoredAny>().map(drop)
    }

    /// Takes in a text.
    fn text(&mut self, _text: &str) {}
}

impl Sparse for Object {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "metadata" => map.next_value().map(|Lenient(metadata)| self.metadata = metadata),
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }
}

impl Sparse for ObjectMeta {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "name" => map.next_value().map(|Lenient(text)| self.name = text),
            "namespace" => map.next_value().map(|Lenient(text)| self.namespace = text),
            "resourceVersion" => map.next_value().map(|Lenient(text)| self.resource_version = text),
            "labels" => map.next_value().map(|Lenient(labels)| self.labels = Some(labels)),
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }
}

impl Sparse for BTreeMap<String, String> {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        if let Lenient(Some(value)) = map.next_value()? {
            self.insert(key.to_owned(), value);
        }
        Ok(())
    }
}

impl Sparse for Option<String> {
    fn text(&mut self, text: &str) {
        *self = Some(text.to_owned());
    }
}

struct Lenient<T>(T);

impl<'de, T: Sparse> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader(PhantomData)).map(Self)
    }
}

struct Reader<T>(PhantomData<T>);

impl<'de, T: Sparse> Visitor<'de> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut value = T::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            value.entry(&key, &mut map)?;
        }
        Ok(value)
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        let mut value = T::default();
        value.text(text);
        Ok(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> ObjectMeta {
        serde_json::from_str::<Object>(text).unwrap().metadata
    }

    #[test]
    fn of_an_object_little_is_kept() {
        let object = json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {
                "name": "web-0", "namespace": "shop", "resourceVersion": "7", "uid": "1",
                "labels": {"app": "web", "quoted": "a\"b", "tier": ""},
                "annotations": {"a": "b"}, "creationTimestamp": null,
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:metadata": {}}}],
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "uid": "2"}],
            },
        });
        let labels = [("app", "web"), ("quoted", "a\"b"), ("tier", "")];
        let expected = ObjectMeta {
            name: Some("web-0".to_owned()),
            namespace: Some("shop".to_owned()),
            resource_version: Some("7".to_owned()),
            labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            ..ObjectMeta::default()
        };
        assert_eq!(read(&object.to_string()), expected);
    }

    #[test]
    fn what_is_not_an_object_is_one_without_a_name() {
        for text in
            ["7", "null", "[1,{\"a\":[]}]", "\"x\"", "true", "-1.5", "{}", "{\"metadata\":7}"]
        {
            assert_eq!(read(text), ObjectMeta::default(), "{text}");
        }
        let odd = read(r#"{"metadata":{"name":["x"],"labels":{"a":1,"b":"c"},"namespace":null}}"#);
        let labels = BTreeMap::from([("b".to_owned(), "c".to_owned())]);
        assert_eq!(odd, ObjectMeta { labels: Some(labels), ..ObjectMeta::default() });
    }
}
