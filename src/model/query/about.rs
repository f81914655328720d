//! Metrics of Kubernetes objects that a definition's own query gives.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::model::query::in_namespace;
use crate::model::{
    Decimal, FetchError, ObjectSet, ObjectsQuery, ObjectsText, Query, QuerySpec, Resource, Series,
    SourceName, WriteText,
};

/// The placeholder for a pattern of the objects' names.
pub const OBJECTS_PLACEHOLDER: &str = "$objects";

/// Which objects a definition's metric is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectsOf {
    /// `<resource>[.<group>]`, as its author wrote it. What it means is known to a cluster alone.
    pub resource: Arc<str>,
    /// The label of the answer's series that holds an object's name; none: the resource's singular
    /// name.
    pub label: Option<Arc<str>>,
}

impl ObjectsOf {
    /// The label for objects of the resource that the text turned out to mean.
    #[must_use]
    pub fn label_for(&self, resource: &Resource) -> Arc<str> {
        self.label.as_ref().map_or_else(|| Arc::clone(&resource.singular), Arc::clone)
    }
}

/// A `PromQL` query in which `$objects` stands for the names of the objects that are read, and
/// perhaps `$namespace` for where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectsTemplate {
    /// The source that answers.
    pub source: SourceName,
    /// The expression with the placeholders in it.
    pub query: Arc<str>,
    /// Sent as `lookback_delta`.
    pub lookback_delta: Option<Duration>,
}

impl ObjectsTemplate {
    /// The question about a set of objects. `namespace` stands for `$namespace`, and `label` is where
    /// the answer's series have the names.
    #[must_use]
    pub fn ask(&self, objects: ObjectSet, namespace: &str, label: &Arc<str>) -> Arc<Query> {
        let text = NamedText::new(self, namespace, label);
        let spec = QuerySpec::Objects(ObjectsQuery { objects, text: ObjectsText(Arc::new(text)) });
        Arc::new(Query { source: self.source.clone(), spec })
    }

    /// The namespace for which this gives the query, if it does; empty where it depends on none.
    #[must_use]
    pub fn namespace_of(&self, of: &ObjectsOf, query: &Query) -> Option<Arc<str>> {
        let QuerySpec::Objects(asked) = &query.spec else { return None };
        let set = &asked.objects;
        let namespace: Arc<str> = match (&set.namespace, &set.names) {
            (Some(namespace), _) => Arc::clone(namespace),
            // A namespace is asked about in itself.
            (None, crate::model::ObjectNames::One(name)) => Arc::clone(name),
            (None, _) => "".into(),
        };
        let text = NamedText::new(self, &namespace, &of.label_for(&set.resource));
        (query.source == self.source && asked.text.0.identity() == text.identity)
            .then_some(namespace)
    }
}

/// The text of a question, complete but for the names.
#[derive(Debug)]
struct NamedText {
    identity: String,
    query: String,
    label: Arc<str>,
    lookback_delta: Option<Duration>,
}

impl NamedText {
    fn new(template: &ObjectsTemplate, namespace: &str, label: &Arc<str>) -> Self {
        let query = in_namespace(&template.query, namespace);
        let mut identity = format!("{query} by {label}");
        if let Some(delta) = template.lookback_delta {
            let _ = write!(identity, " looking back {delta:?}");
        }
        let lookback_delta = template.lookback_delta;
        Self { identity, query, label: Arc::clone(label), lookback_delta }
    }
}

impl WriteText for NamedText {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn write(&self, names: Option<&[Arc<str>]>) -> Result<String, FetchError> {
        let Some(names) = names else {
            let cause = "a query with $objects is not asked about all objects";
            return Err(FetchError::Invalid(cause.into()));
        };
        Ok(with_names(&self.query, names))
    }

    /// Never: what the author's expression makes of a set of names is not known here. A query for
    /// everybody is written without `$objects`.
    fn is_divisible(&self) -> bool {
        false
    }

    fn object_label(&self) -> &str {
        &self.label
    }

    fn lookback_delta(&self) -> Option<Duration> {
        self.lookback_delta
    }

    fn is_strict(&self) -> bool {
        true
    }
}

/// An expression with a pattern in place of the placeholder. One that does not fill its string is
/// put into a group: an alternative ends only where the string does.
fn with_names(expression: &str, names: &[Arc<str>]) -> String {
    let pattern = pattern(names);
    let mut text = String::with_capacity(expression.len() + pattern.len());
    let mut rest = expression;
    while let Some((before, after)) = rest.split_once(OBJECTS_PLACEHOLDER) {
        text.push_str(before);
        let is_quote = |c| matches!(c, '"' | '\'' | '`');
        let alone = before.ends_with(is_quote) && after.starts_with(is_quote);
        if alone || names.len() == 1 {
            text.push_str(&pattern);
        } else {
            text.push_str("(?:");
            text.push_str(&pattern);
            text.push(')');
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

/// A regular expression that the names match.
///
/// It is the same in every kind of string, also in one where nothing can be escaped: what has a
/// meaning in a pattern stands in a class of its own (`web[.]1`), and for what would end the string
/// or the class, which hardly any name has, stands any character. Whom that lets in is told apart by
/// name afterwards.
fn pattern(names: &[Arc<str>]) -> String {
    let mut pattern = String::with_capacity(names.iter().map(|name| name.len() + 1).sum());
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            pattern.push('|');
        }
        for c in name.chars() {
            match c {
                '.' | '+' | '*' | '?' | '(' | ')' | '|' | '{' | '}' | '$' => {
                    pattern.push('[');
                    pattern.push(c);
                    pattern.push(']');
                }
                '\\' | '"' | '\'' | '`' | '^' | '[' | ']' => pattern.push('.'),
                c if c.is_control() => pattern.push('.'),
                c => pattern.push(c),
            }
        }
    }
    pattern
}

/// The series of an answer, found by the object that each is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByObject {
    label: Arc<str>,
    /// Places of the series that have the label, by its value.
    order: Box<[usize]>,
}

impl ByObject {
    /// Looks through the series of an answer.
    ///
    /// # Errors
    /// A sentence when the answer cannot be told apart by this label: no series has it, or two have
    /// one value.
    pub fn of(series: &[Series], label: &Arc<str>) -> Result<Self, String> {
        let name = |at: usize| series[at].labels.get(label);
        let mut order: Vec<usize> = (0..series.len()).filter(|at| name(*at).is_some()).collect();
        order.sort_by_key(|at| name(*at));
        if order.is_empty() && !series.is_empty() {
            return Err(format!(
                "no series of the answer has the label {label}, which is to hold the object's \
                 name; write the query by ({label}), or name another label in \
                 prometheus.objectLabel"
            ));
        }
        let twice = order.windows(2).find(|two| name(two[0]) == name(two[1]));
        if let Some(name) = twice.and_then(|two| name(two[0])) {
            return Err(format!(
                "several series of the answer have {label}=\"{name}\"; make them one, as in \
                 sum by ({label}) (...)"
            ));
        }
        Ok(Self { label: Arc::clone(label), order: order.into() })
    }

    /// The value of an object, among the series that this was made of.
    #[must_use]
    pub fn find<'a>(&self, series: &'a [Series], name: &str) -> Option<&'a Decimal> {
        let name_of = |at: &usize| series.get(*at).and_then(|one| one.labels.get(&self.label));
        let place = self.order.binary_search_by(|at| name_of(at).cmp(&Some(name))).ok()?;
        series.get(self.order[place]).map(|one| &one.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GroupResource, Labels, ObjectNames};

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|&name| name.into()).collect()
    }

    fn template(query: &str) -> ObjectsTemplate {
        ObjectsTemplate {
            source: SourceName::new("main"),
            query: query.into(),
            lookback_delta: None,
        }
    }

    fn pods(namespace: &str) -> ObjectSet {
        ObjectSet {
            resource: Arc::new(Resource {
                id: GroupResource { group: "".into(), resource: "pods".into() },
                version: "v1".into(),
                kind: "Pod".into(),
                singular: "pod".into(),
                namespaced: true,
            }),
            namespace: Some(namespace.into()),
            names: ObjectNames::Matching(crate::model::Selector::default()),
        }
    }

    #[test]
    fn a_pattern_matches_its_names_in_every_kind_of_string() {
        assert_eq!(pattern(&names(&["web-1", "web.2"])), "web-1|web[.]2");
        for name in ["a.b", "system:x", "a+b*c?d", "(x)", "a|b", "[x]", "{2}", "a$", "^a", "a\\b"] {
            let pattern = pattern(&names(&["other", name]));
            let whole = format!("^(?:{pattern})$");
            assert!(regex::Regex::new(&whole).unwrap().is_match(name), "{name}: {pattern}");
            assert!(!pattern.contains(['\\', '"', '`', '\'']), "{pattern}");
        }
        assert!(!pattern(&names(&["a\"b\n"])).contains(['"', '\n']));
    }

    #[test]
    fn a_pattern_that_is_part_of_a_string_is_a_group() {
        let two = names(&["a", "b"]);
        assert_eq!(
            with_names("x{p=~\"$objects\"} / y{p=~`$objects`}", &two),
            "x{p=~\"a|b\"} / y{p=~`a|b`}"
        );
        assert_eq!(with_names("x{p=~\"$objects-.+\"}", &two), "x{p=~\"(?:a|b)-.+\"}");
        assert_eq!(with_names("x{p=~\"$objects-.+\"}", &two[..1]), "x{p=~\"a-.+\"}");
    }

    #[test]
    fn equal_questions_are_one_and_are_known_again() {
        let template = template("x{ns=\"$namespace\",pod=~\"$objects\"}");
        let of = ObjectsOf { resource: "pods".into(), label: None };
        let ask =
            |namespace: &str, label: &str| template.ask(pods(namespace), namespace, &label.into());
        let asked = ask("shop", "pod");
        assert_eq!(asked, ask("shop", "pod"));
        assert_ne!(asked, ask("bank", "pod"));
        assert_ne!(asked, ask("shop", "name"));
        let later =
            ObjectsTemplate { lookback_delta: Some(Duration::from_secs(30)), ..template.clone() };
        assert_ne!(asked, later.ask(pods("shop"), "shop", &"pod".into()));
        assert_eq!(template.namespace_of(&of, &asked).as_deref(), Some("shop"));
        assert_eq!(later.namespace_of(&of, &asked), None);
        assert_eq!(
            asked.spec.to_string(),
            "x{ns=\"shop\",pod=~\"$objects\"} by pod of pods in shop"
        );
    }

    #[test]
    fn an_answer_is_told_apart_by_object_or_refused() {
        let series = |labels: &[(&str, &str)], value: i64| Series {
            labels: Labels::new(labels.iter().copied()),
            value: Decimal::from(value),
        };
        let label: Arc<str> = "pod".into();
        let answer =
            [series(&[("pod", "b"), ("z", "1")], 2), series(&[], 7), series(&[("pod", "a")], 1)];
        let by = ByObject::of(&answer, &label).unwrap();
        let found = |name| by.find(&answer, name).map(ToString::to_string);
        assert_eq!((found("a").as_deref(), found("b").as_deref()), (Some("1"), Some("2")));
        assert_eq!(found("c"), None);
        assert_eq!(ByObject::of(&[], &label).unwrap().find(&[], "a"), None);
        let nameless = ByObject::of(&answer[1..2], &label).unwrap_err();
        assert!(nameless.contains("no series of the answer has the label pod"), "{nameless}");
        let twice = [series(&[("pod", "a"), ("z", "1")], 1), series(&[("pod", "a")], 1)];
        let twice = ByObject::of(&twice, &label).unwrap_err();
        assert!(twice.contains("pod=\"a\""), "{twice}");
    }
}
