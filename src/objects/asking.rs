//! Questions about Kubernetes objects, made complete at the moment they are asked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::model::{
    AnswerShape, ByObject, Cause, Dispatch, Exchange, Explanation, FetchError, ObjectDirectory,
    ObjectNames, ObjectSet, Objects, ObjectsQuery, PrometheusQuery, ProtectionSettings, Query,
    QuerySpec, Sample, Source,
};

/// How long a fetch waits for the first listing of a resource: it holds a place of its upstream
/// meanwhile, which others could use. A thousand pods are two pages, listed in a fraction of it;
/// where there are many more, the next refresh finds them.
const LISTING_PATIENCE: Duration = Duration::from_secs(1);

/// A Prometheus source that also answers questions about objects ([`QuerySpec::Objects`]): it looks
/// up which objects there are, writes the text, and asks the source that. All other questions pass
/// unchanged.
pub struct AskingSource {
    inner: Arc<dyn Source>,
    objects: Arc<dyn ObjectDirectory>,
}

impl AskingSource {
    /// Puts `objects` before a source.
    #[must_use]
    pub fn new(inner: Arc<dyn Source>, objects: Arc<dyn ObjectDirectory>) -> Self {
        Self { inner, objects }
    }

    /// The question that the source is asked.
    ///
    /// # Errors
    /// [`FetchError::NoData`] when the set has no objects, and what writing the text gives.
    /// [`FetchError::Denied`] when objects cannot be listed. All of them are marked as unasked: the
    /// upstream was not, so they say nothing about its health, neither good nor bad.
    async fn complete(&self, query: &Arc<Query>) -> Result<Arc<Query>, FetchError> {
        self.written(query).await.map_err(FetchError::unasked)
    }

    async fn written(&self, query: &Arc<Query>) -> Result<Arc<Query>, FetchError> {
        let QuerySpec::Objects(ObjectsQuery { objects, text }) = &query.spec else {
            return Ok(Arc::clone(query));
        };
        let lookback_delta = text.0.lookback_delta();
        let text = match &objects.names {
            ObjectNames::All => text.0.write(None)?,
            ObjectNames::One(_) | ObjectNames::Matching(_) => {
                text.0.write(Some(&self.names(objects).await?))?
            }
        };
        Ok(Arc::new(Query {
            source: query.source.clone(),
            spec: QuerySpec::Prometheus(PrometheusQuery {
                query: text.into(),
                lookback_delta,
                shape: AnswerShape::Vector,
            }),
        }))
    }

    async fn names(&self, set: &ObjectSet) -> Result<Arc<[Arc<str>]>, FetchError> {
        let mut objects = self.objects.names(set);
        if objects == Objects::Listing {
            let listed = self.objects.listed(&set.resource);
            // Whether it was in time shows below.
            let _ = tokio::time::timeout(LISTING_PATIENCE, listed).await;
            objects = self.objects.names(set);
        }
        match objects {
            Objects::Known(names) if names.is_empty() => {
                Err(FetchError::NoData(Cause::new(nothing(set))))
            }
            Objects::Known(names) => Ok(names),
            Objects::Listing => Err(FetchError::Denied(Cause::new(format!(
                "{} are being listed for the first time, and that takes longer than \
                 {LISTING_PATIENCE:?}",
                set.resource.id
            )))),
            Objects::Unavailable(reason) => Err(FetchError::Denied(Cause::new(reason))),
        }
    }
}

/// The answer to a question about objects, by object.
fn divided(query: &Query, answer: Result<Sample, FetchError>) -> Result<Sample, FetchError> {
    let QuerySpec::Objects(asked) = &query.spec else { return answer };
    let mut sample = answer?;
    let text = &asked.text.0;
    if text.is_strict()
        && let Err(why) = ByObject::of(&sample.series, &text.object_label().into())
    {
        return Err(FetchError::Malformed(Cause::new(why)));
    }
    sample.series = asked.divided(sample.series);
    if sample.series.is_empty() {
        return Err(FetchError::NoData(Cause::new(format!(
            "no series of the answer has the label {}",
            asked.text.0.object_label()
        ))));
    }
    Ok(sample)
}

/// That a set has no objects, in a sentence.
fn nothing(set: &ObjectSet) -> String {
    let resource = &set.resource.id;
    let mut sentence = match &set.names {
        ObjectNames::Matching(selector) if !selector.is_everything() => {
            format!("no {resource} match \"{selector}\"")
        }
        _ => format!("there are no {resource}"),
    };
    if let Some(namespace) = &set.namespace {
        sentence.push_str(" in namespace ");
        sentence.push_str(namespace);
    }
    sentence
}

impl Source for AskingSource {
    fn fetch<'a>(
        &'a self,
        queries: &'a [Arc<Query>],
    ) -> BoxFuture<'a, Vec<Result<Sample, FetchError>>> {
        async move {
            let complete = queries.iter().map(|query| self.complete(query));
            let complete = futures::future::join_all(complete).await;
            let asked: Vec<Arc<Query>> =
                complete.iter().filter_map(|query| query.as_ref().ok().cloned()).collect();
            let answers =
                if asked.is_empty() { Vec::new() } else { self.inner.fetch(&asked).await };
            let mut answers = answers.into_iter();
            let silent = || Err(FetchError::Malformed(Cause::new("the source gave no answer")));
            complete
                .into_iter()
                .zip(queries)
                .map(|(complete, query)| {
                    let answer = complete.and_then(|_| answers.next().unwrap_or_else(silent));
                    divided(query, answer)
                })
                .collect()
        }
        .boxed()
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    fn dispatch(&self, query: &Query) -> Dispatch {
        self.inner.dispatch(query)
    }

    fn protection(&self, query: &Query) -> Option<ProtectionSettings> {
        self.inner.protection(query)
    }

    fn explain<'a>(&'a self, query: &'a Arc<Query>) -> BoxFuture<'a, Explanation> {
        async move {
            match self.complete(query).await {
                Ok(complete) => {
                    let mut explanation = self.inner.explain(&complete).await;
                    explanation.outcome = divided(query, explanation.outcome);
                    explanation
                }
                Err(error) => {
                    Explanation { exchanges: Vec::new(), choice: Vec::new(), outcome: Err(error) }
                }
            }
        }
        .boxed()
    }

    /// None also where the objects are not known.
    fn preview<'a>(&'a self, query: &'a Arc<Query>) -> BoxFuture<'a, Option<Vec<Exchange>>> {
        async move {
            let complete = self.complete(query).await.ok()?;
            self.inner.preview(&complete).await
        }
        .boxed()
    }
}

impl fmt::Debug for AskingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AskingSource")
    }
}

#[cfg(test)]
mod tests;
