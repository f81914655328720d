//! Which HPAs read a definition, which ask for it in vain, and what each would get.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::control::events::Hpa;
use crate::control::hpa_watch::Used;
use crate::definition::status::HpaReference;
use crate::model::{DefinitionId, DefinitionKey, Foresee, MetricReference, Miss};

/// Longest problem of an HPA in a status, in characters: ten of them stay below the size of what the
/// API server keeps of an object without thinking.
pub(super) const MAX_PROBLEM_CHARS: usize = 400;

/// One HPA and one of its references.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reader {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) problem: Option<Trouble>,
}

/// Why an HPA gets no value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Trouble {
    pub(super) kind: TroubleKind,
    pub(super) message: Arc<str>,
}

/// What kind of mistake it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TroubleKind {
    /// The metric is not seen in its namespace.
    NotSeen,
    /// Its selector matches no series, or its target has no objects that are meant.
    NoMatch,
    /// The metric, or another of its name, has no value.
    NoValue,
}

impl Reader {
    pub(super) fn told(&self) -> HpaReference {
        HpaReference {
            namespace: self.namespace.to_string(),
            name: self.name.to_string(),
            problem: self.problem.as_ref().map(|problem| problem.message.to_string()),
        }
    }
}

/// The HPAs of one definition, by namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Readers {
    pub(super) used_by: Vec<Reader>,
    pub(super) missed_by: Vec<Reader>,
}

/// The HPAs of all definitions that are resources.
#[derive(Debug, Default)]
pub(super) struct Register {
    by_definition: HashMap<DefinitionId, Arc<Readers>>,
    /// What each HPA gets of each metric that it asks for.
    outcomes: BTreeMap<(Hpa, Arc<str>), Outcome>,
    /// Whether some reference has not been tried yet: its outlook changes soon.
    untried: bool,
}

/// What an HPA gets of a metric; of several references to it the worst counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// A value.
    Value,
    /// That is not known yet.
    Untried,
    /// Nothing.
    Trouble(Trouble),
}

impl Register {
    /// Asks what each reference would get. Readers that are as they were `before` stay where they are.
    pub(super) fn of(used: &[Used], foresee: &dyn Foresee, before: &Self) -> Self {
        let mut making = Making::default();
        for Used { reference, hpas } in used {
            making.add(reference, hpas, foresee);
        }
        let Making { by_definition, outcomes, untried } = making;
        let shared = |(id, mut readers): (DefinitionId, Readers)| {
            for list in [&mut readers.used_by, &mut readers.missed_by] {
                // One HPA may refer to it more than once; what is wrong with one reference is told.
                list.sort_by(|a, b| {
                    let named = (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name));
                    named.then(b.problem.cmp(&a.problem))
                });
                list.dedup_by(|a, b| a.namespace == b.namespace && a.name == b.name);
            }
            let same = before.by_definition.get(&id).filter(|before| ***before == readers);
            let readers = same.map_or_else(|| Arc::new(readers), Arc::clone);
            (id, readers)
        };
        Self { by_definition: by_definition.into_iter().map(shared).collect(), outcomes, untried }
    }

    /// The HPAs of a resource, if there are any.
    pub(super) fn of_definition(&self, id: &DefinitionId) -> Option<&Arc<Readers>> {
        self.by_definition.get(id)
    }

    /// What each HPA gets of each metric that it asks for.
    pub(super) fn outcomes(&self) -> &BTreeMap<(Hpa, Arc<str>), Outcome> {
        &self.outcomes
    }

    /// Whether some reference has not been tried yet: its outlook changes soon.
    pub(super) fn is_untried(&self) -> bool {
        self.untried
    }
}

#[derive(Default)]
struct Making {
    by_definition: HashMap<DefinitionId, Readers>,
    outcomes: BTreeMap<(Hpa, Arc<str>), Outcome>,
    untried: bool,
}

impl Making {
    fn add(&mut self, reference: &MetricReference, hpas: &[Arc<str>], foresee: &dyn Foresee) {
        let outlook = foresee.glance(reference);
        let is_untried = matches!(outlook.answer, Err(Miss::Untried));
        let trouble =
            |kind, message: &str| Trouble { kind, message: cut(message, MAX_PROBLEM_CHARS).into() };
        let (problem, elsewhere) = match outlook.answer {
            Ok(_) => (None, Vec::new()),
            Err(Miss::Untried) => {
                self.untried = true;
                (None, Vec::new())
            }
            Err(Miss::Unknown { message, elsewhere, .. }) => {
                (Some(trouble(TroubleKind::NotSeen, &message)), elsewhere)
            }
            Err(Miss::NoMatch { message }) => {
                (Some(trouble(TroubleKind::NoMatch, &message)), Vec::new())
            }
            Err(Miss::NoValue { message }) => {
                (Some(trouble(TroubleKind::NoValue, &message)), Vec::new())
            }
        };
        let readers = hpas.iter().map(|name| Reader {
            namespace: Arc::clone(&reference.namespace),
            name: Arc::clone(name),
            problem: problem.clone(),
        });
        let readers: Vec<Reader> = readers.collect();
        for reader in &readers {
            let (namespace, name) = (Arc::clone(&reader.namespace), Arc::clone(&reader.name));
            let key = (Hpa { namespace, name }, Arc::clone(&reference.metric));
            let outcome = match &problem {
                Some(trouble) => Outcome::Trouble(trouble.clone()),
                None if is_untried => Outcome::Untried,
                None => Outcome::Value,
            };
            let before = self.outcomes.entry(key).or_insert(Outcome::Value);
            if outcome > *before {
                *before = outcome;
            }
        }
        // A file's document of the same name is another definition.
        let resources = |keys: Vec<DefinitionKey>| {
            keys.into_iter().filter(|key| key.is_resource).map(|key| key.id)
        };
        for id in resources(outlook.definitions) {
            self.by_definition.entry(id).or_default().used_by.extend(readers.iter().cloned());
        }
        for id in resources(elsewhere) {
            self.by_definition.entry(id).or_default().missed_by.extend(readers.iter().cloned());
        }
    }
}

/// At most so many characters of a text.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DefinitionKind, Outlook, ReferenceKind, Selector};

    fn id(name: &str) -> DefinitionId {
        let kind = DefinitionKind::ExternalMetric;
        DefinitionId { kind, namespace: Some("shop".into()), name: name.into() }
    }

    fn key(name: &str) -> DefinitionKey {
        DefinitionKey { id: id(name), is_resource: true }
    }

    struct Fixed;

    impl Foresee for Fixed {
        fn foresee(&self, reference: &MetricReference) -> Outlook {
            let (definitions, answer) = match (&*reference.namespace, &*reference.metric) {
                ("shop", "jobs") if reference.selector.is_everything() => {
                    (vec![key("jobs")], Ok("1".to_owned()))
                }
                ("shop", "jobs") => {
                    (vec![key("jobs")], Err(Miss::NoMatch { message: "no series".to_owned() }))
                }
                // A document of a file that has the resource's name.
                ("shop", "filed") => {
                    let filed = DefinitionKey { is_resource: false, ..key("jobs") };
                    (vec![filed], Err(Miss::NoValue { message: "it is down".to_owned() }))
                }
                ("shop", _) => (vec![key("new")], Err(Miss::Untried)),
                _ => {
                    let message = "not defined here".to_owned();
                    let elsewhere = vec![key("jobs")];
                    (Vec::new(), Err(Miss::Unknown { message, near: Vec::new(), elsewhere }))
                }
            };
            Outlook { definitions, answer }
        }
    }

    fn used(namespace: &str, metric: &str, selector: &str, hpas: &[&str]) -> Used {
        let reference = MetricReference {
            namespace: namespace.into(),
            metric: metric.into(),
            selector: Selector::parse(selector).unwrap(),
            kind: ReferenceKind::External,
        };
        let hpas = hpas.iter().map(|name| Arc::from(*name)).collect();
        Used { reference: Arc::new(reference), hpas }
    }

    #[test]
    fn each_hpa_stands_once_with_what_is_wrong_with_it() {
        let all = [
            used("shop", "jobs", "", &["b", "c"]),
            used("shop", "jobs", "queue=x", &["a", "b"]),
            used("mail", "jobs", "", &["m"]),
            used("shop", "filed", "", &["c", "d"]),
        ];
        let register = Register::of(&all, &Fixed, &Register::default());
        assert!(!register.is_untried());
        let readers = register.of_definition(&id("jobs")).unwrap();
        let told: Vec<_> = readers.used_by.iter().map(Reader::told).collect();
        let told: Vec<_> = told.iter().map(|r| (&*r.name, r.problem.as_deref())).collect();
        assert_eq!(told, [("a", Some("no series")), ("b", Some("no series")), ("c", None)]);
        assert_eq!(readers.missed_by.len(), 1);
        assert_eq!(readers.missed_by[0].told().problem.as_deref(), Some("not defined here"));
        assert_eq!(register.of_definition(&id("other")), None);
        let again = Register::of(&all, &Fixed, &register);
        assert!(Arc::ptr_eq(again.of_definition(&id("jobs")).unwrap(), readers));
        let hpa = |name: &str| Hpa { namespace: "shop".into(), name: name.into() };
        let outcome = |register: &Register, name: &str, metric: &str| {
            register.outcomes()[&(hpa(name), Arc::from(metric))].clone()
        };
        assert_eq!(outcome(&register, "c", "jobs"), Outcome::Value);
        for (name, metric, kind) in
            [("b", "jobs", TroubleKind::NoMatch), ("d", "filed", TroubleKind::NoValue)]
        {
            let outcome = outcome(&register, name, metric);
            assert!(matches!(outcome, Outcome::Trouble(trouble) if trouble.kind == kind));
        }
        let untried = Register::of(&[used("shop", "new", "", &["n"])], &Fixed, &register);
        assert!(untried.is_untried());
        assert_eq!(outcome(&untried, "n", "new"), Outcome::Untried);
    }
}
