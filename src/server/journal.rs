//! The log of failed reads: one line a minute for each metric and kind of failure, however often it
//! is read, with the id under which kube-apiserver's audit log has the request.
//!
//! Not responsible for: why a read failed (the answer says it), health and discovery.
//!
//! Invariants: memory and lines are bounded whatever is asked for, and by whom; of who asked, a
//! line has the user's name alone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use prometheus_client::metrics::counter::Counter;

use super::authn::HASHER;
use crate::model::{ResourceAttributes, Tick};
use crate::status::Failed;
use crate::telemetry::Telemetry;

/// Between two lines about the same. An HPA reads every 15 s.
const PAUSE: Duration = Duration::from_mins(1);

/// Metrics and kinds of failure that are told apart; the others share one line. A slot is 24 bytes.
const MAX_SLOTS: usize = 4096;

/// Lines within a second, about whatever: a Prometheus that is down fails thousands of metrics.
const MAX_LINES_PER_SECOND: u32 = 20;

/// Longest text of a line that the requester chose, in bytes. A metric's name has 253 at most.
const MAX_TEXT: usize = 256;

/// What is kept about failures.
#[derive(Debug)]
pub(super) struct Journal {
    book: Mutex<Book>,
    logged: Counter,
    suppressed: Counter,
}

/// When what was logged last.
#[derive(Debug, Default)]
struct Book {
    slots: HashMap<u64, Slot>,
    /// The second that `lines` belong to, by the tick it began.
    second: Tick,
    lines: u32,
}

#[derive(Debug, Default)]
struct Slot {
    /// Not logged again before.
    next: Tick,
    /// Failures since the last line.
    suppressed: u64,
}

impl Book {
    /// Whether a failure is logged now; then with how many that were not, since the last time.
    fn admit(&mut self, key: u64, now: Tick) -> Option<u64> {
        if !self.slots.contains_key(&key) && self.slots.len() >= MAX_SLOTS {
            self.slots.retain(|_, slot| slot.next > now);
        }
        // Zero is as good a slot as any for those that find no place.
        let key =
            if self.slots.len() < MAX_SLOTS || self.slots.contains_key(&key) { key } else { 0 };
        let slot = self.slots.entry(key).or_default();
        if slot.next > now {
            slot.suppressed += 1;
            return None;
        }
        if now.since(self.second) >= Duration::from_secs(1) {
            (self.second, self.lines) = (now, 0);
        }
        if self.lines >= MAX_LINES_PER_SECOND {
            slot.suppressed += 1;
            return None;
        }
        self.lines += 1;
        slot.next = now.after(PAUSE);
        Some(std::mem::take(&mut slot.suppressed))
    }
}

impl Journal {
    /// An empty one.
    pub(super) fn new(telemetry: &Telemetry) -> Self {
        let journal = Self {
            book: Mutex::default(),
            logged: Counter::default(),
            suppressed: Counter::default(),
        };
        telemetry.register(|registry| {
            registry.register(
                "server_failed_reads_logged",
                "Lines in the log about failed reads",
                journal.logged.clone(),
            );
            registry.register(
                "server_failed_reads_suppressed",
                "Failed reads without a line in the log, because an equal one was there within a minute, or too many others",
                journal.suppressed.clone(),
            );
        });
        journal
    }

    /// Notes a request that failed; `user` is who asked, if that is known.
    pub(super) fn failed(
        &self,
        asked: &ResourceAttributes,
        failed: &Failed,
        code: u16,
        user: Option<&str>,
        request_id: Option<&HeaderValue>,
        now: Tick,
    ) {
        let ResourceAttributes { group, namespace, resource, subresource, name, .. } = asked;
        let key = HASHER.hash_one((group, namespace, resource, subresource, failed.reason));
        let admitted = self.book.lock().unwrap_or_else(PoisonError::into_inner).admit(key, now);
        let Some(suppressed) = admitted else {
            self.suppressed.inc();
            return;
        };
        self.logged.inc();
        // A metric of objects is read as a subresource of these.
        let (metric, objects) = if subresource.is_empty() {
            (resource, String::new())
        } else {
            (subresource, format!("{resource}/{name}"))
        };
        tracing::warn!(
            request_id = clip(request_id.and_then(|id| id.to_str().ok()).unwrap_or_default()),
            user = clip(user.unwrap_or_default()),
            group = clip(group),
            namespace = clip(namespace),
            metric = clip(metric),
            objects = clip(&objects),
            code,
            reason = failed.reason,
            cause = failed.message,
            suppressed,
            "a read failed"
        );
    }
}

/// At most [`MAX_TEXT`] bytes of a text.
fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_the_rest_is_counted() {
        let mut book = Book::default();
        let start = Tick(1_000_000);
        let at = |seconds| start.after(Duration::from_secs(seconds));
        assert_eq!(book.admit(1, at(0)), Some(0));
        assert_eq!([15, 30, 45, 59].map(|s| book.admit(1, at(s))), [None; 4]);
        assert_eq!(book.admit(2, at(59)), Some(0), "another metric has a line of its own");
        assert_eq!(book.admit(1, at(60)), Some(4));
        assert_eq!(book.admit(1, at(300)), Some(0));
    }

    #[test]
    fn lines_and_memory_are_bounded_whatever_is_asked_for() {
        let mut book = Book::default();
        let start = Tick(1_000_000);
        let mut lines = 0;
        for key in 1..=100_000 {
            lines += u32::from(book.admit(key, start).is_some());
        }
        assert_eq!(lines, MAX_LINES_PER_SECOND);
        assert!(book.slots.len() <= MAX_SLOTS, "{}", book.slots.len());
        // Whoever was crowded out has a line later.
        assert_eq!(book.admit(21, start.after(Duration::from_secs(1))), Some(0));
    }

    #[test]
    fn texts_are_cut_between_letters() {
        assert_eq!(clip("jobs"), "jobs");
        assert_eq!(clip(&"é".repeat(200)).len(), MAX_TEXT);
        assert_eq!(clip(&format!("x{}", "é".repeat(200))).len(), MAX_TEXT - 1);
    }
}
