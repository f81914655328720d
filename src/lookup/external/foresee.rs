//! What a read of an external metric of definitions would get.

use std::sync::Arc;

use super::{ExternalLookup, Inner, Pass, folded};
use crate::catalog::Served;
use crate::lookup::foresee::{Foreseen, number_of, of_error};
use crate::lookup::near::{self, MAX_NEAR};
use crate::lookup::segment::is_namespace;
use crate::model::{DefinitionKey, MetricName, MetricReference, Miss, Selector};

impl ExternalLookup {
    /// What a read would get, for an onlooker; the sentence of the refusal where no definition of the
    /// metric is seen in the namespace.
    pub(in crate::lookup) fn foresee(
        &self,
        reference: &MetricReference,
    ) -> Result<Foreseen, String> {
        let MetricReference { namespace, metric, selector, .. } = reference;
        let answer = match self.0.pass(namespace, metric, selector) {
            Pass::Unknown(error) => return Err(error.to_string()),
            Pass::Done(Ok(reading)) => Ok(number_of(reading.items.iter().map(|i| i.value))),
            Pass::Done(Err(error)) => Err(of_error(&error)),
            Pass::Untried(untried) => {
                let now = self.0.cells.clock.tick();
                let late = untried.iter().find(|untried| now >= untried.until);
                Err(late.map_or(Miss::Untried, |late| of_error(&late.timed_out(namespace))))
            }
        };
        Ok(Foreseen { definitions: self.0.definitions(namespace, metric, selector), answer })
    }

    /// Definitions of the metric that are not seen in the namespace, three at most.
    pub(in crate::lookup) fn elsewhere(&self, namespace: &str, metric: &str) -> Vec<DefinitionKey> {
        let snapshot = self.0.catalog.snapshot();
        let Some(listing) = snapshot.listing(&folded(metric)) else { return Vec::new() };
        let seen: Vec<&Arc<Served>> =
            listing.visible(namespace, |scope| self.0.selects(scope, namespace)).collect();
        listing
            .all()
            .filter(|served| seen.iter().all(|seen| !Arc::ptr_eq(seen, served)))
            .map(|served| served.entry.key())
            .take(MAX_NEAR)
            .collect()
    }

    /// Looks at names that begin like the one asked for or, of few metrics, at all.
    pub(in crate::lookup) fn near(&self, namespace: &str, search: &mut near::Search<'_>) {
        let (names, asked): (Arc<[MetricName]>, _) = (self.names(), search.asked());
        let around = near::outward(&names, |name| name.as_str() < asked);
        search.look_at(around.map(MetricName::as_str), |name| self.is_seen(namespace, name));
    }

    /// Whether a definition of this name is seen in the namespace.
    pub(in crate::lookup) fn is_seen(&self, namespace: &str, metric: &str) -> bool {
        let snapshot = self.0.catalog.snapshot();
        let listing = snapshot.listing(metric).filter(|_| is_namespace(namespace));
        listing.is_some_and(|listing| {
            listing.visible(namespace, |scope| self.0.selects(scope, namespace)).next().is_some()
        })
    }

    /// Counts the changes of what is defined.
    pub(in crate::lookup) fn generation(&self) -> u64 {
        self.0.catalog.snapshot().generation()
    }
}

impl Inner {
    /// The definitions whose labels admit the selector; where there is none, all that are seen.
    fn definitions(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Vec<DefinitionKey> {
        let snapshot = self.catalog.snapshot();
        let Some(listing) = snapshot.listing(&folded(metric)) else { return Vec::new() };
        let seen: Vec<&Arc<Served>> =
            listing.visible(namespace, |scope| self.selects(scope, namespace)).collect();
        let key = |served: &&Arc<Served>| served.entry.key();
        let admitted = |served: &&&Arc<Served>| selector.may_match(&served.entry.labels);
        let meant: Vec<DefinitionKey> = seen.iter().filter(admitted).map(key).collect();
        if meant.is_empty() { seen.iter().map(key).collect() } else { meant }
    }
}
