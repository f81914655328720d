//! The request flow: from a metric's name and a selector to values from memory.
//!
//! Responsible for: which definitions answer a read, what their cells may serve, and the sentence
//! that says why when they may not.
//! Not responsible for: HTTP, fetching (it only tells the refresher what is wanted).
//!
//! Invariants: a read of a known query never waits for an upstream, with one exception: while a
//! query has never been tried, a read waits for its first fetch, at most until
//! `firstReadTimeout` after the query became wanted. If one definition that a read matches has
//! nothing to serve, the whole read fails and says which: never a partial sum.

mod cells;
mod crowds;
pub mod custom;
pub mod external;
mod foresee;
pub(crate) mod items;
pub mod message;
pub mod metrics;
mod near;
pub mod rule;
mod segment;
mod waiting;

pub use custom::CustomLookup;
pub use external::ExternalLookup;
pub use metrics::{Cluster, Lookup};
pub use rule::RuleLookup;
