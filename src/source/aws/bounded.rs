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

/// The pause between two values that make room though they were used: what takes their place may
/// be as useless, and each of them costs a call.
const SPARE_PAUSE: Duration = Duration::from_millis(100);

/// At most `limit` values by key.
pub(super) struct Bounded<K, V> {
    limit: usize,
    what: &'static str,
    /// Whether a value is of no use to whoever asks for it.
    is_spare: fn(&V) -> bool,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    entries: HashMap<K, (V, Instant)>,
    spared: Option<Instant>,
}

impl<K: Clone + Eq + Hash, V: Clone> Bounded<K, V> {
    /// Empty. `what` names the things in the error, in the plural.
    pub(super) fn new(limit: usize, what: &'static str) -> Self {
        Self::with_spare(limit, what, |_| false)
    }

    /// The same, where some values make room first, however much they are asked for.
    pub(super) fn with_spare(limit: usize, what: &'static str, is_spare: fn(&V) -> bool) -> Self {
        let state = Mutex::new(State { entries: HashMap::new(), spared: None });
        Self { limit, what, is_spare, state }
    }

    /// The value of a key, made when it is not there.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] when there are `limit` others, all of them in use.
    pub(super) fn get_or_insert(&self, key: &K, make: impl FnOnce() -> V) -> Result<V, FetchError> {
        self.get_or_replace(key, |_| true, make)
    }

    /// The value of a key, made when it is not there, or does not fit any more.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] when there are `limit` others, all of them in use.
    pub(super) fn get_or_replace(
        &self,
        key: &K,
        fits: impl FnOnce(&V) -> bool,
        make: impl FnOnce() -> V,
    ) -> Result<V, FetchError> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { entries, spared } = &mut *state;
        if let Some((value, used)) = entries.get_mut(key) {
            *used = now;
            if !fits(value) {
                *value = make();
            }
            return Ok(value.clone());
        }
        if entries.len() >= self.limit {
            entries.retain(|_, (_, used)| now.duration_since(*used) < IDLE);
        }
        let may_spare = spared.is_none_or(|last| now.duration_since(last) >= SPARE_PAUSE);
        if entries.len() >= self.limit && may_spare {
            let spare = entries.iter().filter(|(_, (value, _))| (self.is_spare)(value));
            let oldest = spare.min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            if let Some(key) = oldest {
                entries.remove(&key);
                *spared = Some(now);
            }
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

    #[tokio::test(start_paused = true)]
    async fn the_useless_make_room_one_after_the_other() {
        let map = Bounded::with_spare(3, "roles", |value: &u8| *value > 100);
        let get = |key: u8| map.get_or_insert(&key, || key).ok();
        assert_eq!((get(1), get(101), get(102)), (Some(1), Some(101), Some(102)));
        tokio::time::advance(SPARE_PAUSE).await;
        // 101 is used more often, and lately.
        get(101);
        assert_eq!((get(2), get(3)), (Some(2), None));
        tokio::time::advance(SPARE_PAUSE).await;
        assert_eq!((get(3), get(2), get(1), get(101)), (Some(3), Some(2), Some(1), None));
        tokio::time::advance(SPARE_PAUSE).await;
        assert_eq!(get(101), None);
    }

    #[test]
    fn what_does_not_fit_any_more_is_replaced() {
        let map = Bounded::new(1, "clients");
        let get = |value: u8| map.get_or_replace(&'k', |known| *known == value, || value).ok();
        assert_eq!((get(1), get(2), get(2)), (Some(1), Some(2), Some(2)));
    }
}
