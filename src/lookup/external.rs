//! Reads of external metrics, and their announcement by HPAs.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use futures::FutureExt;

use crate::cache::{Admission, QueryCell, View};
use crate::catalog::{Catalog, Served};
use crate::lookup::cells::Cells;
use crate::lookup::segment::is_namespace;
use crate::lookup::{items, message};
use crate::model::{
    ApiError, ExternalReading, Labels, MetricName, NamespaceDirectory, Reading, Scope, Selector,
    Tick,
};

mod announce;
mod foresee;

/// How often a waiting read looks again because the definitions changed under it. Once is rare;
/// more than this only happens when queries are evicted as fast as they are made.
const MAX_WAIT_ROUNDS: usize = 4;

/// Answers reads of external metrics from the catalog's cells.
#[derive(Clone)]
pub struct ExternalLookup(Arc<Inner>);

struct Inner {
    catalog: Arc<Catalog>,
    namespaces: Arc<dyn NamespaceDirectory>,
    cells: Cells,
}

/// What one pass over the definitions of a read found.
enum Pass {
    Done(Result<ExternalReading, ApiError>),
    /// No definition of the metric is visible in the namespace.
    Unknown(ApiError),
    /// Some queries have never been tried; the read may wait for these.
    Untried(Vec<Untried>),
}

struct Untried {
    cell: Arc<QueryCell>,
    served: Arc<Served>,
    /// Until when the first read may wait.
    until: Tick,
}

impl ExternalLookup {
    /// A lookup over these parts.
    #[must_use]
    pub(super) fn new(
        catalog: Arc<Catalog>,
        namespaces: Arc<dyn NamespaceDirectory>,
        cells: Cells,
    ) -> Self {
        Self(Arc::new(Inner { catalog, namespaces, cells }))
    }

    /// The same for an onlooker.
    pub(super) fn for_onlooker(&self) -> Self {
        let Inner { catalog, namespaces, cells } = &*self.0;
        Self::new(Arc::clone(catalog), Arc::clone(namespaces), cells.for_onlooker())
    }
}

impl fmt::Debug for ExternalLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExternalLookup")
    }
}

impl ExternalLookup {
    /// Reads a metric of definitions.
    ///
    /// # Errors
    /// When no definition of the metric is visible in the namespace: what a reader hears then,
    /// unless somebody else knows the metric.
    pub(super) fn read(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Result<Reading<ExternalReading>, ApiError> {
        match self.0.pass(namespace, metric, selector) {
            Pass::Done(result) => Ok(Reading::Ready(result)),
            Pass::Unknown(error) => Err(error),
            Pass::Untried(untried) => {
                let now = self.0.cells.clock.tick();
                if let Some(late) = untried.iter().find(|u| now >= u.until) {
                    return Ok(Reading::Ready(Err(late.timed_out(namespace))));
                }
                let inner = Arc::clone(&self.0);
                let (namespace, metric) = (namespace.to_owned(), metric.to_owned());
                let selector = selector.clone();
                Ok(Reading::Wait(
                    async move { inner.wait(untried, &namespace, &metric, &selector).await }
                        .boxed(),
                ))
            }
        }
    }

    /// The names of all metrics of definitions, sorted and unique.
    pub(super) fn names(&self) -> Arc<[MetricName]> {
        self.0.catalog.snapshot().names()
    }
}

impl Untried {
    fn timed_out(&self, namespace: &str) -> ApiError {
        ApiError::FirstReadTimeout(message::first_read_timed_out(
            &self.served,
            namespace,
            self.cell.query(),
        ))
    }
}

impl Inner {
    /// Waits for first fetches until each has ended or its time is up, then answers.
    async fn wait(
        &self,
        mut untried: Vec<Untried>,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Result<ExternalReading, ApiError> {
        for _round in 0..MAX_WAIT_ROUNDS {
            for waiting in &untried {
                let left = waiting.until.since(self.cells.clock.tick());
                if tokio::time::timeout(left, waiting.cell.tried()).await.is_err() {
                    return Err(waiting.timed_out(namespace));
                }
            }
            match self.pass(namespace, metric, selector) {
                Pass::Done(result) => return result,
                Pass::Unknown(error) => return Err(error),
                // The definitions changed meanwhile and brought new queries. Their own time
                // bounds the next round; a query that is untried past its time ends the read.
                Pass::Untried(next) => {
                    let now = self.cells.clock.tick();
                    if let Some(late) = next.iter().find(|u| now >= u.until) {
                        return Err(late.timed_out(namespace));
                    }
                    untried = next;
                }
            }
        }
        Err(untried.first().map_or_else(
            || ApiError::Internal("a read waited for nothing".to_owned()),
            |waiting| waiting.timed_out(namespace),
        ))
    }

    /// One look at memory.
    fn pass(&self, namespace: &str, metric: &str, selector: &Selector) -> Pass {
        let now = self.cells.clock.tick();
        let metric = folded(metric);
        // No namespace has another form. A path segment can be anything, and it goes into queries
        // where `$namespace` may stand in a raw string, in which nothing can be escaped.
        if !is_namespace(namespace) {
            return Pass::Unknown(ApiError::MetricUnknown(message::unknown(&metric, namespace)));
        }
        let snapshot = self.catalog.snapshot();
        let Some((name, listing)) = snapshot.find(&metric) else {
            return Pass::Unknown(ApiError::MetricUnknown(message::unknown(&metric, namespace)));
        };
        let visible = || listing.visible(namespace, |scope| self.selects(scope, namespace));

        let mut items = Vec::new();
        let mut untried = Vec::new();
        let mut known = 0_usize;
        let mut trouble = None;
        for served in visible() {
            known += 1;
            let selector = served.entry.selected_by(selector);
            if !selector.may_match(&served.entry.labels) {
                continue;
            }
            let (cell, admission) = match self.cell(served, &snapshot, namespace, now) {
                Ok(found) => found,
                Err(error) => return Pass::Done(Err(error)),
            };
            let state = cell.state();
            match state.view(&served.entry.policy, now) {
                View::Fresh(sample) | View::Servable(sample) => {
                    let collected =
                        items::collect(&served.entry, sample, selector, &mut items, |_| {});
                    if let Err(missing) = collected {
                        trouble.get_or_insert_with(|| {
                            let query = cell.query();
                            message::no_number(&served.entry, namespace, query, &missing)
                        });
                    }
                }
                View::Chosen(number, no_data) => {
                    items.push(items::chosen(&served.entry, number, no_data.timestamp));
                }
                View::Waiting if admission == Admission::Full => {
                    return Pass::Done(Err(ApiError::NoValue(message::queue_full(
                        served,
                        namespace,
                        cell.query(),
                    ))));
                }
                View::Waiting => {
                    let patience = served.entry.policy.first_read_timeout;
                    untried.push(Untried {
                        until: self.cells.patient_until(&cell, patience, now),
                        served: Arc::clone(served),
                        cell,
                    });
                }
                view @ (View::NoData(_) | View::Failed(_) | View::Expired) => {
                    // Keep looking: every definition of this read must be noted as wanted.
                    trouble.get_or_insert_with(|| {
                        message::no_value(
                            &served.entry,
                            namespace,
                            cell.query(),
                            &state,
                            &view,
                            now,
                        )
                    });
                }
            }
        }
        if let Some(trouble) = trouble {
            return Pass::Done(Err(ApiError::NoValue(trouble)));
        }
        if !untried.is_empty() {
            return Pass::Untried(untried);
        }
        if known == 0 {
            return Pass::Unknown(ApiError::MetricUnknown(message::unknown(&metric, namespace)));
        }
        if items.is_empty() {
            let existing: Vec<Labels> =
                visible().flat_map(|served| self.existing(served, &snapshot, namespace)).collect();
            return Pass::Done(Err(ApiError::MetricNotFound(message::no_match(
                &metric,
                namespace,
                selector,
                existing.iter(),
            ))));
        }
        Pass::Done(Ok(ExternalReading { metric: name.clone(), items }))
    }

    /// The cell that answers for a definition, noted as read and wanted.
    fn cell(
        &self,
        served: &Served,
        snapshot: &crate::catalog::Snapshot,
        namespace: &str,
        now: Tick,
    ) -> Result<(Arc<QueryCell>, Admission), ApiError> {
        let cell = self.known(served, snapshot, namespace).ok_or_else(|| {
            ApiError::Internal(
                "the catalog has an external metric whose query needs objects".to_owned(),
            )
        })?;
        if self.cells.is_onlooker() {
            return Ok((cell, Admission::Accepted));
        }
        cell.touch(now);
        if cell.is_scheduled() {
            return Ok((cell, Admission::Accepted));
        }
        // Before the refresher hears of it, so that it need not be told to hurry.
        cell.await_first(now);
        let admission = self.cells.demand.want(&cell);
        Ok((cell, admission))
    }

    /// The cell that answers for a definition. None for one of objects, which is never in a listing
    /// of external metrics.
    fn known(
        &self,
        served: &Served,
        snapshot: &crate::catalog::Snapshot,
        namespace: &str,
    ) -> Option<Arc<QueryCell>> {
        if let Some(cell) = &served.cell {
            return Some(Arc::clone(cell));
        }
        let query = served.entry.query.resolve(namespace)?;
        let known = snapshot.cell(&query).cloned();
        Some(known.unwrap_or_else(|| self.cells.made(&query, &served.entry)))
    }

    /// The labels of the series that a definition has now, or could have.
    fn existing(
        &self,
        served: &Served,
        snapshot: &crate::catalog::Snapshot,
        namespace: &str,
    ) -> Vec<Labels> {
        let constant = &served.entry.labels;
        let state = self.known(served, snapshot, namespace).map(|cell| cell.state().clone());
        match state.as_ref().and_then(|state| state.last_sample()) {
            Some(sample) => {
                sample.series.iter().map(|series| series.labels.overlaid(constant)).collect()
            }
            None => vec![constant.clone()],
        }
    }

    fn selects(&self, scope: &Scope, namespace: &str) -> bool {
        selects(&*self.namespaces, scope, namespace)
    }
}

/// Whether a namespace's labels match the selector of a scope, if it has one.
pub(super) fn selects(namespaces: &dyn NamespaceDirectory, scope: &Scope, namespace: &str) -> bool {
    match scope {
        Scope::Selected(selector) => {
            namespaces.labels(namespace).is_some_and(|labels| selector.matches(&labels))
        }
        Scope::Namespace(_) | Scope::All | Scope::Listed(_) => false,
    }
}

/// External names are case-folded; client-go sends them in lower case already.
fn folded(metric: &str) -> Cow<'_, str> {
    if metric.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        Cow::Borrowed(metric)
    } else {
        Cow::Owned(metric.to_lowercase())
    }
}

#[cfg(test)]
mod tests;
