//! Where certificates stand, for readiness.

use std::sync::{Mutex, PoisonError};

/// Why this replica should not get requests yet.
#[derive(Debug)]
pub struct Standing(Mutex<Option<String>>);

impl Standing {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some("the Secret has not been looked at yet".to_owned())))
    }

    /// Why this replica should not get requests; none once it served a pair that every one of our
    /// `APIServices` trusted, and from then on.
    #[must_use]
    pub fn pending(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn tell(&self, pending: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pending;
    }
}
