//! Questions about Kubernetes objects, whose text is complete only when they are asked.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Decimal, FetchError, Labels, ObjectNames, ObjectSet, Series};

/// A question about a set of objects: an instant query whose text has the names of the objects in
/// it, as they are when it is asked. The question stays the same when objects come and go, and
/// with it its cell. Its samples are [`ObjectsQuery::divided`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectsQuery {
    /// The objects.
    pub objects: ObjectSet,
    /// The text.
    pub text: ObjectsText,
}

impl fmt::Display for ObjectsQuery {
    /// The identity of the text and the objects, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectSet { resource, namespace, names } = &self.objects;
        write!(f, "{} of {}", self.text.0.identity(), resource.id)?;
        match names {
            ObjectNames::One(name) => write!(f, " {name}")?,
            ObjectNames::Matching(selector) if selector.is_everything() => {}
            ObjectNames::Matching(selector) => write!(f, " ({selector})")?,
            ObjectNames::All => f.write_str(" (all)")?,
        }
        namespace.as_ref().map_or(Ok(()), |namespace| write!(f, " in {namespace}"))
    }
}

/// Writes the text of a question for given objects.
pub trait WriteText: Send + Sync + fmt::Debug + 'static {
    /// What tells this text from others: two with one identity write the same for the same names.
    fn identity(&self) -> &str;

    /// The text for objects of these names, at least one. `None` stands for all objects of the
    /// set, whatever their names; only asked of texts that [`WriteText::is_divisible`].
    ///
    /// # Errors
    /// [`FetchError::Invalid`] when the text cannot be written (a template that fails).
    fn write(&self, names: Option<&[Arc<str>]>) -> Result<String, FetchError>;

    /// Whether one question about all objects answers for each of them what a question about it
    /// alone would: no value depends on which other objects are asked about.
    fn is_divisible(&self) -> bool;

    /// The label of the answer's series that holds an object's name.
    fn object_label(&self) -> &str;

    /// Sent as `lookback_delta`.
    fn lookback_delta(&self) -> Option<Duration> {
        None
    }

    /// Whether an answer that cannot be told apart by object is an error ([`crate::model::query::about::ByObject::of`]). Where
    /// it is none, of several series of one object the last counts, as in the original, and an
    /// answer without the label is one without data.
    fn is_strict(&self) -> bool {
        false
    }

    /// The metric behind it and where its rule stands (`file:line`), for people. None where that is
    /// known otherwise.
    fn ruled(&self) -> Option<(String, String)> {
        None
    }
}

/// A text, compared by its identity.
#[derive(Clone, Debug)]
pub struct ObjectsText(pub Arc<dyn WriteText>);

impl PartialEq for ObjectsText {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.identity() == other.0.identity()
    }
}

impl Eq for ObjectsText {}

impl Hash for ObjectsText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.identity().hash(state);
    }
}

impl ObjectsQuery {
    /// The series of an answer as samples of such a query hold them: one for each object that has a
    /// value, sorted by the object's name, with the label of that name alone. Of several for one
    /// object the last counts, as in the original; those without the label say nothing of an object.
    #[must_use]
    pub fn divided(&self, series: Vec<Series>) -> Vec<Series> {
        let label = self.text.0.object_label();
        let mut named: Vec<(Arc<str>, Decimal)> = series
            .into_iter()
            .filter_map(|one| Some((one.labels.get(label)?.into(), one.value)))
            .collect();
        // Stable: of equal names the last stays last, and is the one that is kept.
        named.sort_by(|a, b| a.0.cmp(&b.0));
        named.reverse();
        named.dedup_by(|a, b| a.0 == b.0);
        named.reverse();
        let label: Arc<str> = label.into();
        named
            .into_iter()
            .map(|(name, value)| Series { labels: Labels::new([(label.clone(), name)]), value })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GroupResource, Resource};

    #[derive(Debug)]
    struct ByPod;

    impl WriteText for ByPod {
        fn identity(&self) -> &'static str {
            "by pod"
        }

        fn write(&self, _names: Option<&[Arc<str>]>) -> Result<String, FetchError> {
            Ok(String::new())
        }

        fn is_divisible(&self) -> bool {
            true
        }

        fn object_label(&self) -> &'static str {
            "pod"
        }
    }

    #[test]
    fn an_answer_is_divided_by_name_and_the_last_of_an_object_counts() {
        let resource = Resource {
            id: GroupResource { group: "".into(), resource: "pods".into() },
            version: "v1".into(),
            kind: "Pod".into(),
            singular: "pod".into(),
            namespaced: true,
        };
        let query = ObjectsQuery {
            objects: ObjectSet {
                resource: Arc::new(resource),
                namespace: None,
                names: ObjectNames::All,
            },
            text: ObjectsText(Arc::new(ByPod)),
        };
        let series = |pod: Option<&str>, value: i64| Series {
            labels: Labels::new(pod.map(|pod| ("pod", pod)).into_iter().chain([("zone", "a")])),
            value: value.into(),
        };
        let answer = [(Some("b"), 1), (None, 2), (Some("a"), 3), (Some("b"), 4), (Some("a"), 5)];
        let divided = query.divided(answer.map(|(pod, value)| series(pod, value)).to_vec());
        let shown: Vec<String> =
            divided.iter().map(|one| format!("{}={}", one.labels, one.value)).collect();
        assert_eq!(shown, ["{pod=a}=5", "{pod=b}=4"]);
    }
}
