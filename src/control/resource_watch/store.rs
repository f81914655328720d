//! What the metric resources are, and what is served of them.
//!
//! Pure: no API server and no clock.
//!
//! Rules: a resource that is valid serves. One whose edit is refused keeps its last good version, as
//! long as it is the same object (by uid). One that is deleted goes. Of more resources than the
//! limits allow the youngest are refused; nothing of them is kept but that they are there, so one
//! that fits again must be listed again ([`Collected::unread`]). Of a source with a ceiling, files
//! are served first and then the oldest resources (`ceiling`).
//!
//! Invariants: the order is that of age (time of creation, namespace, name, kind), so that all
//! replicas agree; a resource is translated once for every change of its spec, or of an annotation of
//! ours, and not for any other change.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use jiff::Timestamp;

use super::object::{Digest, MAX_SPEC_BYTES, Object, Spec};
use crate::control::ceiling::{Ceiling, Kin};
use crate::control::declared::{Declared, Resources, Verdict};
use crate::control::file_watch::share;
use crate::definition::tenancy::Tenancy;
use crate::definition::{self, Author, Context, Defaults, resource};
use crate::model::{
    DefinitionId, DefinitionKind, Entry, Policy, Problem, ProblemKind, SourceDirectory, Transform,
};

/// Most problems of resources that are handed over with the definitions, for the status page and the
/// log: every resource has its own in its status.
const MAX_PROBLEMS: usize = 1000;

/// What resources are read against.
pub(super) struct Against {
    pub(super) sources: SourceDirectory,
    pub(super) defaults: Defaults,
    pub(super) tenancy: Tenancy,
    pub(super) ceiling: Arc<Ceiling>,
}

/// What a watch has seen.
#[derive(Debug)]
pub(super) enum Change {
    /// All resources of a kind are going to be told.
    Begin(DefinitionKind),
    /// A resource is there, and is this.
    Put(DefinitionKind, Box<Object>),
    /// All that were not told since the beginning are gone.
    End(DefinitionKind),
    /// A resource is gone.
    Remove(DefinitionKind, Box<Object>),
    /// The kind itself is gone.
    Gone(DefinitionKind),
}

/// What a change asks for. The greater includes the smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touched {
    /// Nothing.
    #[default]
    Nothing,
    /// The board, with another status in place of a status: nearly always our own writer's, told
    /// back to us.
    Echo,
    /// The board: what is served stays.
    Board,
    /// The definitions, too.
    Definitions,
}

/// The resources of the cluster.
pub(super) struct Store {
    against: Against,
    /// What definitions of a namespace say nothing about.
    tenant_defaults: Defaults,
    known: BTreeMap<DefinitionId, Known>,
    /// What is not read yet, newest version.
    arrived: BTreeMap<DefinitionId, Box<Object>>,
    /// What was told by the listings that are under way.
    listings: HashMap<DefinitionKind, HashSet<DefinitionId>>,
    /// Those that may be served and whose spec is to be listed again.
    unread: BTreeSet<DefinitionId>,
    /// Objects that could not be used since the start.
    malformed: u64,
    /// Whether the definitions have changed since they were collected.
    touched: bool,
    like: Option<(Arc<Policy>, Arc<Transform>)>,
}

/// A resource that is there.
struct Known {
    declared: Arc<Declared>,
    digest: Digest,
    read: Read,
}

/// What became of reading a resource.
enum Read {
    /// It was not, or nothing of it was kept.
    Not,
    Good(Arc<Entry>),
    Wrong {
        problems: Arc<[Problem]>,
        last_good: Option<Arc<Entry>>,
    },
}

impl Read {
    fn entry(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Not => None,
            Self::Good(entry) => Some(entry),
            Self::Wrong { last_good, .. } => last_good.as_ref(),
        }
    }
}

/// Whom a ceiling refuses: why, and whether an earlier version is served.
type Refusals = HashMap<DefinitionId, (String, bool)>;

/// The resources at a moment.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// What is to be served, oldest first, and what is wrong with the others; none when that has not
    /// changed.
    pub(super) definitions: Option<(Vec<Arc<Entry>>, Vec<Problem>)>,
    /// All resources, and what became of each.
    pub(super) resources: Resources,
    /// The kinds of which some must be listed again.
    pub(super) unread: BTreeSet<DefinitionKind>,
    /// Those that are refused and were not before, or for other reasons.
    pub(super) refused: Vec<Arc<Declared>>,
}

impl Store {
    pub(super) fn new(against: Against) -> Self {
        Self {
            tenant_defaults: against.tenancy.defaults(&against.defaults),
            against,
            known: BTreeMap::new(),
            arrived: BTreeMap::new(),
            listings: HashMap::new(),
            unread: BTreeSet::new(),
            malformed: 0,
            touched: false,
            like: None,
        }
    }

    /// How many objects could not be used since the start.
    pub(super) fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Takes in a change.
    pub(super) fn take(&mut self, change: Change) -> Touched {
        let touched = match change {
            Change::Begin(kind) => {
                self.listings.insert(kind, HashSet::new());
                Touched::Nothing
            }
            Change::Put(kind, object) => match object.id(kind) {
                Ok(id) => {
                    if let Some(listing) = self.listings.get_mut(&kind) {
                        listing.insert(id.clone());
                    }
                    self.put(id, object)
                }
                Err(reason) => self.skip(kind, reason),
            },
            Change::Remove(kind, object) => match object.id(kind) {
                Ok(id) => self.remove(&id),
                Err(reason) => self.skip(kind, reason),
            },
            Change::End(kind) => {
                let told = self.listings.remove(&kind).unwrap_or_default();
                self.keep(kind, |id| told.contains(id))
            }
            Change::Gone(kind) => self.keep(kind, |_| false),
        };
        self.touched |= touched == Touched::Definitions;
        touched
    }

    fn skip(&mut self, kind: DefinitionKind, reason: &str) -> Touched {
        self.malformed += 1;
        tracing::warn!(
            kind = kind.as_str(),
            reason,
            "a metric resource cannot be used and is left out"
        );
        Touched::Nothing
    }

    fn put(&mut self, id: DefinitionId, object: Box<Object>) -> Touched {
        if let Some(known) = self.known.get_mut(&id)
            && !self.arrived.contains_key(&id)
            && known.is(&object)
            && !self.unread.contains(&id)
        {
            let Declared { generation, status, .. } = &*known.declared;
            if *generation == object.generation && *status == object.status {
                return Touched::Nothing;
            }
            // One that is taken away is written anew, so it must be seen soon.
            let echo = *generation == object.generation && object.status.is_some();
            let declared = Arc::make_mut(&mut known.declared);
            (declared.generation, declared.status) = (object.generation, object.status);
            return if echo { Touched::Echo } else { Touched::Board };
        }
        self.unread.remove(&id);
        self.arrived.insert(id, object);
        Touched::Definitions
    }

    fn remove(&mut self, id: &DefinitionId) -> Touched {
        let arrived = self.arrived.remove(id).is_some();
        self.unread.remove(id);
        if self.known.remove(id).is_some() || arrived {
            Touched::Definitions
        } else {
            Touched::Nothing
        }
    }

    /// Keeps the resources of a kind that are to be kept, and all of the others.
    fn keep(&mut self, kind: DefinitionKind, stays: impl Fn(&DefinitionId) -> bool) -> Touched {
        let goes = |id: &&DefinitionId| id.kind == kind && !stays(id);
        let gone: BTreeSet<DefinitionId> =
            self.known.keys().chain(self.arrived.keys()).filter(goes).cloned().collect();
        gone.iter().map(|id| self.remove(id)).max().unwrap_or_default()
    }

    /// What is left of a source for resources may be another amount.
    pub(super) fn reconsider(&mut self) -> Touched {
        if self.known.values().all(|known| known.read.entry().is_none()) {
            return Touched::Nothing;
        }
        self.touched = true;
        Touched::Definitions
    }

    /// Reads what has arrived and tells how everything stands.
    pub(super) fn collect(&mut self) -> Collected {
        if !std::mem::take(&mut self.touched) {
            return Collected { resources: self.resources(), ..Collected::default() };
        }
        let arrived = std::mem::take(&mut self.arrived);
        for (id, object) in &arrived {
            self.note(id, object);
        }
        let order = self.order();
        let out = self.too_many(&order);
        for (id, object) in arrived {
            if !out.contains_key(&id) {
                self.read(&id, &object);
            }
        }
        self.unread.clear();
        for (id, known) in &mut self.known {
            if out.contains_key(id) {
                known.read = Read::Not;
            } else if matches!(known.read, Read::Not) {
                self.unread.insert(id.clone());
            }
        }
        let (entries, refusals) = self.admit(&order);
        let (mut refused, mut problems) = (Vec::new(), Vec::new());
        for id in &order {
            let Some(known) = self.known.get_mut(id) else { continue };
            let refusal = out.get(id).or_else(|| refusals.get(id).map(|(refusal, _)| refusal));
            let stays = refusals.get(id).is_none_or(|(_, stays)| *stays);
            let verdict = known.verdict(refusal, stays);
            if let Verdict::Refused { problems: found, .. } = &verdict {
                let room = MAX_PROBLEMS - problems.len();
                problems.extend(found.iter().take(room).cloned());
            }
            if known.declared.verdict != verdict {
                Arc::make_mut(&mut known.declared).verdict = verdict;
                if matches!(known.declared.verdict, Verdict::Refused { .. }) {
                    refused.push(Arc::clone(&known.declared));
                }
            }
        }
        Collected {
            definitions: Some((entries, problems)),
            resources: self.resources(),
            unread: self.unread.iter().map(|id| id.kind).collect(),
            refused,
        }
    }

    /// Notes that an object is there, without what its spec says.
    fn note(&mut self, id: &DefinitionId, object: &Object) {
        let declared = Declared {
            id: id.clone(),
            uid: Arc::clone(&object.uid),
            generation: object.generation,
            created: object.created,
            verdict: Verdict::Accepted,
            status: object.status.clone(),
        };
        match self.known.get_mut(id) {
            // Another object of this name has no last good version.
            Some(known) if known.declared.uid == object.uid => {
                let verdict = known.declared.verdict.clone();
                known.declared = Arc::new(Declared { verdict, ..declared });
                known.digest = object.digest;
            }
            _ => {
                let known =
                    Known { declared: Arc::new(declared), digest: object.digest, read: Read::Not };
                self.known.insert(id.clone(), known);
            }
        }
    }

    /// All resources, oldest first.
    fn order(&self) -> Vec<DefinitionId> {
        let age = |known: &'_ Known| -> Timestamp { known.declared.created };
        let mut order: Vec<(&DefinitionId, &Known)> = self.known.iter().collect();
        order.sort_by(|(a, old), (b, new)| {
            (age(old), &a.namespace, &a.name, a.kind).cmp(&(
                age(new),
                &b.namespace,
                &b.name,
                b.kind,
            ))
        });
        order.into_iter().map(|(id, _)| id.clone()).collect()
    }

    /// Those that are more than the limits allow, and why each is refused.
    fn too_many(&self, order: &[DefinitionId]) -> HashMap<DefinitionId, String> {
        let Tenancy { max_per_namespace, max_total, .. } = self.against.tenancy;
        let mut by_namespace: HashMap<&Arc<str>, usize> = HashMap::new();
        for namespace in order.iter().filter_map(|id| id.namespace.as_ref()) {
            *by_namespace.entry(namespace).or_default() += 1;
        }
        let mut out = HashMap::new();
        let mut let_in = 0_usize;
        let mut seen: HashMap<&Arc<str>, usize> = HashMap::new();
        for id in order {
            if let Some(namespace) = &id.namespace {
                let number = seen.entry(namespace).or_default();
                *number += 1;
                if *number > max_per_namespace {
                    let message = format!(
                        "namespace {namespace} has {} metric resources, and {max_per_namespace} are allowed in one (resources.maxPerNamespace); by age this is number {number}",
                        by_namespace[namespace]
                    );
                    out.insert(id.clone(), message);
                    continue;
                }
            }
            let_in += 1;
            if let_in > max_total {
                let message = format!(
                    "the cluster has {} metric resources, and {max_total} are allowed (resources.maxTotal); by age this is number {let_in} of those that their namespaces may have",
                    order.len()
                );
                out.insert(id.clone(), message);
            }
        }
        out
    }

    /// Reads a resource that was noted.
    fn read(&mut self, id: &DefinitionId, object: &Object) {
        let outcome = translate(&self.against, &self.tenant_defaults, id, object);
        let Some(known) = self.known.get_mut(id) else { return };
        known.read = match outcome {
            Ok(mut entry) => {
                share(&mut entry, &mut self.like);
                Read::Good(Arc::new(entry))
            }
            Err(problems) => {
                let last_good = known.read.entry().cloned();
                Read::Wrong { problems: problems.into(), last_good }
            }
        };
    }

    /// What is served under the ceilings, and whom they refuse.
    fn admit(&self, order: &[DefinitionId]) -> (Vec<Arc<Entry>>, Refusals) {
        let entries = order.iter().filter_map(|id| self.known.get(id)?.read.entry());
        let entries: Vec<Arc<Entry>> = entries.cloned().collect();
        let verdicts = self.against.ceiling.admit(Kin::Resources, &entries);
        let refused = |verdict: &crate::control::ceiling::Verdict| {
            Some((verdict.refusal.clone()?, verdict.entry.is_some()))
        };
        let refusals = verdicts.iter().zip(&entries);
        let refusals = refusals
            .filter_map(|(verdict, entry)| Some((entry.id.clone(), refused(verdict)?)))
            .collect();
        (verdicts.into_iter().filter_map(|verdict| verdict.entry).collect(), refusals)
    }

    fn resources(&self) -> Resources {
        self.known.iter().map(|(id, known)| (id.clone(), Arc::clone(&known.declared))).collect()
    }
}

impl Known {
    /// Whether an object is the one that is known, and says the same.
    fn is(&self, object: &Object) -> bool {
        self.digest == object.digest
            && self.declared.uid == object.uid
            && self.declared.created == object.created
    }

    /// What became of it. `refusal`: why it is not served although it may be right. `stays`: whether
    /// what it has to serve is served.
    fn verdict(&self, refusal: Option<&String>, stays: bool) -> Verdict {
        let id = &self.declared.id;
        let refusal = refusal.map(|message| {
            let (field, kind) = match (&self.read, id.kind) {
                (Read::Not, _) => ("", ProblemKind::LimitExceeded),
                (_, DefinitionKind::AwsExternalMetric) => {
                    ("spec.queries", ProblemKind::TooExpensive)
                }
                (..) => ("spec.cloudwatch", ProblemKind::TooExpensive),
            };
            problem(id, field, message.clone()).of_kind(kind)
        });
        let problems: Vec<Problem> = match &self.read {
            Read::Not if refusal.is_none() => {
                let message = "there is room for it again; it is being read".to_owned();
                vec![problem(id, "", message).of_kind(ProblemKind::LimitExceeded)]
            }
            Read::Not | Read::Good(_) => refusal.into_iter().collect(),
            Read::Wrong { problems, .. } => problems.iter().cloned().chain(refusal).collect(),
        };
        if problems.is_empty() {
            return Verdict::Accepted;
        }
        let last_good_stays = stays && self.read.entry().is_some();
        Verdict::Refused { problems: problems.into(), last_good_stays }
    }
}

/// The definition that a resource is.
fn translate(
    against: &Against,
    tenant_defaults: &Defaults,
    id: &DefinitionId,
    object: &Object,
) -> Result<Entry, Vec<Problem>> {
    let spec = match &object.spec {
        Spec::Read(spec) => spec,
        Spec::TooLarge(bytes) => {
            let message = format!(
                "{bytes} bytes, and {MAX_SPEC_BYTES} are allowed; divide it into several resources"
            );
            let problem = problem(id, "spec", message);
            return Err(vec![problem.of_kind(ProblemKind::LimitExceeded)]);
        }
    };
    let tenant = id.kind.is_namespaced();
    let no_files = |_: &std::path::Path, _: usize| Err(std::io::ErrorKind::NotFound.into());
    let context = Context {
        sources: Some(&against.sources),
        defaults: if tenant { tenant_defaults } else { &against.defaults },
        cluster: true,
        author: Author::Tenant,
        read_file: &no_files,
    };
    let Object { created, annotations, .. } = object;
    let resource = resource::Resource { id, created: *created, annotations, spec };
    // Whoever may write a resource must not be able to stop everybody's metrics by a defect of ours.
    let read = AssertUnwindSafe(|| definition::resource::read(&resource, &context).outcome);
    let entry = std::panic::catch_unwind(read).unwrap_or_else(|_| {
        let message = "reading it fails with a defect of Tidepole; please report it";
        Err(vec![problem(id, "spec", message.to_owned())])
    })?;
    match against.tenancy.refusal(&entry) {
        Some(problem) => Err(vec![problem]),
        None => Ok(entry),
    }
}

fn problem(id: &DefinitionId, field: &str, message: String) -> Problem {
    Problem::new(id.resource_path(), message).with_field(field)
}

#[cfg(test)]
mod tests;
