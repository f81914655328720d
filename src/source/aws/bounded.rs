//! A map of things that queries name, with a bound.
//!
//! Queries come from tenants. What they name is kept for as long as somebody uses it, and what is
//! beyond the bound is an error, so that no set of definitions can exhaust memory or sockets.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Cause, FetchError};

/// What was not used for this long makes room when room is needed: its definitions have gone.
/// Longer than the longest refresh that anybody needs of an HPA's metric.
const IDLE: Duration = Duration::from_hours(1);

/// At most `limit` values by key.
pub(super) struct Bounded<K, V> {
    limit: usize,
    what: &'static str,
    entries: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K: Clone + Eq + Hash, V: Clone> Bounded<K, V> {
    /// Empty. `what` names the things in the error, in the plural.
    pub(super) fn new(limit: usize, what: &'static str) -> Self {
        Self { limit, what, entries: Mutex::default() }
    }

    /// The value of a key, made when it is not there.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] when there are `limit` others, all of them in use.
    pub(super) fn get_or_insert(&self, key: &K, make: impl FnOnce() -> V) -> Result<V, FetchError> {
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((value, used)) = entries.get_mut(key) {
            *used = now;
            return Ok(value.clone());
        }
        if entries.len() >= self.limit {
            entries.retain(|_, (_, used)| now.duration_since(*used) < IDLE);
        }
        if entries.len() >= self.limit {
            return Err(FetchError::Invalid(Cause::new(format!(
                "queries to this source name more than {} {}; use another source for some of them",
                self.limit, self.what
            ))));
        }
        let value = make();
        entries.insert(key.clone(), (value.clone(), now));
        Ok(value)
    }
}

impl<K, V> fmt::Debug for Bounded<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn beyond_the_bound_only_the_unused_make_room() {
        let map = Bounded::new(2, "roles");
        let get = |key: u8| map.get_or_insert(&key, || key).map_err(|error| error.to_string());
        assert_eq!((get(1), get(2), get(1)), (Ok(1), Ok(2), Ok(1)));
        let full =
            "queries to this source name more than 2 roles; use another source for some of them";
        assert_eq!(get(3), Err(full.to_owned()));
        tokio::time::advance(IDLE).await;
        assert_eq!((get(1), get(3), get(2)), (Ok(1), Ok(3), Err(full.to_owned())));
    }
}
