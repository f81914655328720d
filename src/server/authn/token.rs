//! Bearer tokens, by `TokenReview`.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, header};
use moka::sync::Cache;
use sha2::{Digest, Sha256};

use super::caller::Caller;
use crate::model::Identity;
use crate::server::review::{Behalf, Demand, Desk, Keep, ReviewError, Slot};

/// How long an answer is kept, whichever way it went; the Go server's value.
const KEEP: Duration = Duration::from_secs(10);

/// Tokens remembered at once. Direct callers are scrapers and people: a handful.
const TOKENS: u64 = 1024;

/// What a review said of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenVerdict {
    /// It is this user's.
    Authenticated(Identity),
    /// It is nobody's.
    Rejected,
}

/// Who reviews tokens.
pub trait TokenReviewer: Send + Sync + 'static {
    /// Asks whose token it is. Neither the error nor any log may contain the token.
    fn review(&self, token: String) -> BoxFuture<'static, Result<TokenVerdict, ReviewError>>;
}

/// Whose token it is; `None` for nobody's.
type Outcome = Option<Arc<Caller>>;

/// Token authentication: a reviewer and what it said lately.
pub(super) struct Tokens {
    reviewer: Arc<dyn TokenReviewer>,
    desk: Arc<Desk>,
    /// Tokens are remembered by keyed hash only, so that no memory dump gives one away and nobody
    /// can construct a collision.
    key: [u8; 32],
    cache: Cache<[u8; 32], Arc<Slot<Outcome>>>,
}

impl Tokens {
    pub(super) fn new(reviewer: Arc<dyn TokenReviewer>, desk: Desk) -> Self {
        let cache = Cache::builder().max_capacity(TOKENS).time_to_idle(KEEP * 2).build();
        Self { reviewer, desk: Arc::new(desk), key: rand::random(), cache }
    }

    /// Whose token it is. An answer of "nobody's" is the error text for the log.
    pub(super) fn authenticate(
        &self,
        token: &str,
    ) -> BoxFuture<'static, Result<Arc<Caller>, String>> {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(token);
        let slot = self.cache.get_with(hash.finalize().into(), || Arc::new(Slot::new()));
        let demand = slot.demand(
            &self.desk,
            Behalf::Somebody,
            |_| Keep { serve: KEEP, refresh: None },
            || {
                let review = self.reviewer.review(token.to_owned());
                async move {
                    Ok(match review.await? {
                        TokenVerdict::Authenticated(identity) => {
                            Some(Caller::authenticated(identity))
                        }
                        TokenVerdict::Rejected => None,
                    })
                }
            },
        );
        async move {
            let outcome = match demand {
                Demand::Now(outcome) => outcome,
                Demand::Wait(answer) => {
                    answer.await.map_err(|e| format!("the token could not be reviewed: {e}"))?
                }
            };
            outcome.ok_or_else(|| "invalid bearer token".to_owned())
        }
        .boxed()
    }
}

/// The bearer token of a request, by Go's reading of the header: the scheme in any case, then one
/// word. Anything else is no token at all.
pub(super) fn bearer(headers: &HeaderMap) -> Option<Result<&str, String>> {
    let value = headers.get(header::AUTHORIZATION)?;
    let mut words = value.as_bytes().trim_ascii().split(|b| *b == b' ');
    if !words.next()?.eq_ignore_ascii_case(b"bearer") {
        return None;
    }
    let token = words.next().filter(|t| !t.is_empty())?;
    Some(std::str::from_utf8(token).map_err(|_| "the bearer token is not text".to_owned()))
}

#[cfg(test)]
mod tests;
