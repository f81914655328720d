//! Definitions in the words of other adapters, for those who come from them.
//!
//! Responsible for: reading them as their own adapter did, and turning them into the entries that our
//! documents become. Not responsible for: `prometheus-adapter`'s rules, which are no definitions
//! (`rules`).

pub(super) mod metrics_aws;
