//! Handshakes under way: who has to go when there are too many.
//!
//! Anybody who reaches the port can open connections and then say nothing. Until the handshake
//! ends nobody knows whether a connection is the aggregator's, so unfinished ones have places of
//! their own, and when these are taken the oldest gives way: an honest peer finishes within a
//! moment, a silent one only grows old.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// The handshakes under way, oldest first.
pub(super) struct Handshakes {
    limit: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    queue: VecDeque<(u64, CancellationToken)>,
}

/// One handshake's place; given back when dropped.
pub(super) struct Place {
    handshakes: Arc<Handshakes>,
    id: u64,
    evicted: CancellationToken,
}

impl Handshakes {
    /// Places for so many handshakes.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), waiting: Mutex::default() })
    }

    /// A place for one more handshake; the oldest gives way when all are taken.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let evicted = CancellationToken::new();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let id = waiting.next;
        waiting.next += 1;
        if waiting.queue.len() >= self.limit
            && let Some((_, oldest)) = waiting.queue.pop_front()
        {
            oldest.cancel();
        }
        waiting.queue.push_back((id, evicted.clone()));
        Place { handshakes: Arc::clone(self), id, evicted }
    }
}

impl Place {
    /// Ends when the place was given to a newer handshake.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.handshakes.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Ids only grow, so the queue is sorted by them.
        if let Ok(at) = waiting.queue.binary_search_by_key(&self.id, |(id, _)| *id) {
            waiting.queue.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn the_oldest_gives_way_and_a_finished_one_is_forgotten() {
        let handshakes = Handshakes::new(2);
        let (first, second) = (handshakes.enter(), handshakes.enter());
        assert!(first.evicted().now_or_never().is_none());
        let third = handshakes.enter();
        assert!(first.evicted().now_or_never().is_some());
        drop(second);
        let fourth = handshakes.enter();
        assert!(third.evicted().now_or_never().is_none(), "the second had left");
        drop((first, third, fourth));
        assert!(handshakes.waiting.lock().unwrap().queue.is_empty());
    }
}
