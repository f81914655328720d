//! What the last change of the definition files came to, for the status page.

use std::sync::{Mutex, PoisonError};

use crate::model::Tick;
use crate::runtime::admin::Reloaded;

/// The last change.
#[derive(Debug, Default)]
pub struct Reloads(Mutex<Option<Last>>);

#[derive(Clone, Copy, Debug)]
struct Last {
    at: Tick,
    entries: usize,
    problems: usize,
}

impl Reloads {
    /// Notes that a change was taken over.
    pub fn note(&self, at: Tick, entries: usize, problems: usize) {
        let last = Last { at, entries, problems };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    /// What the last one came to; none before the first.
    #[must_use]
    pub fn last(&self, now: Tick) -> Option<Reloaded> {
        let last = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let Last { at, entries, problems } = last;
        Some(Reloaded { ago: now.since(at), entries, problems })
    }
}
